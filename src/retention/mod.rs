//! Retention: which rows are old enough to be deleted, by which clock, after which announcement, and how they are deleted
//! while programs write.
//!
//! - `settings`: the settings, and what is wrong with them. `rules`: what they say of the rows.
//! - `clock`: the clock that is trusted. `announcement`: what was announced before anything was deleted.
//! - `positions`: closed positions, by day, once their statistics are proved.
//! - `batch`: how much is deleted at once. `walk`: one table from one end to the other. `size`: the limit on the size.
//! - `run`: all of it, counted or deleted. `give_back`: the pages that deleted rows leave.

mod announcement;
mod batch;
mod clock;
mod give_back;
mod positions;
mod rules;
mod run;
mod settings;
mod size;
mod walk;

pub use announcement::RetentionNotice;
pub use clock::{ClockDoubt, ClockRecord, TrustedClock};
pub use give_back::give_back;
pub use positions::PositionAccess;
pub use rules::prunable_tables;
pub use run::{
    PruneRun, announcement_sentence, deleted_sentence, read_settings, rows_text, time_text,
};
pub use settings::RetentionSettings;
pub use size::SizeOutcome;
pub use walk::{TableOutcome, WalkMemory, WalkTask};
