//! The renderings of a [`Report`](super::Report). They only show; what it means is decided before.

mod archive;
mod backups;
mod check_line;
mod drift;
mod format;
mod health;
mod metrics;
mod overview;
mod status;
mod text;

pub use archive::shown_drill;
pub use check_line::{BackupFigures, Counts, check_line};
pub use drift::drift_json;
pub use format::{stored_timestamp, timestamp};
pub use metrics::{HttpFigures, METRICS_CONTENT_TYPE, RequestCount, Scrape};
