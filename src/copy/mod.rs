//! Copies a whole database into another one, on the other store, and proves that both are equal. The plan says what is
//! copied ([`plan`]); every value is examined before anything is written ([`survey`]); then all rows are written in one
//! transaction and read back, and each table is compared with its digest ([`transfer`]). Knows the stores only through
//! their seam.

mod compare;
mod extra_names;
mod ledger;
mod plan;
mod problems;
pub mod render;
mod row_check;
mod rows;
mod sample;
mod skipped_rows;
mod survey;
mod target_rows;
mod transfer;

pub use plan::{CopyPlan, plan};
pub use problems::Problem;
pub use sample::{RowSample, sample_rows};
pub use skipped_rows::SkippedRows;
pub use survey::{Survey, survey};
pub use target_rows::refuse_rows_beforehand;
pub use transfer::{CopyReport, transfer};
