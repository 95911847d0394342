//! Whether the database can be used. One [`Report`] holds everything that is known of it; one decision
//! ([`Report::status`]) says what that means. The JSON of HTTP and of `--check`, the line of `--check` and
//! the text of `cts status` are renderings of the report, so they cannot disagree.

mod archive;
mod backups;
mod conditions;
mod figures;
mod history;
mod missing;
mod overview;
mod probe_times;
mod reason;
pub mod render;
mod report;
mod verdict;

pub use conditions::{Conditions, Subject};
pub use figures::{FigureWatch, Figures};
pub use history::History;
pub use overview::Overview;
pub use probe_times::{BUCKETS, ProbeTimes, RecordedProbes};
pub use reason::{Reason, Severity};
pub use report::{DeepCheck, Report, Surroundings, examine};
pub use verdict::{Status, disk_reason, inode_reason, unanswered_reason};
