//! Everything that the status page draws, at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use super::figures::Figures;
use super::history::HistoryPoints;
use super::report::Report;
use crate::store::journal::Journal;

/// Everything that the status page draws.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The report, of which the health answers are made too.
    pub report: Report,
    /// The figures that were taken last.
    pub figures: Arc<Figures>,
    /// The history; `None` where it is not asked for.
    pub history: Option<HistoryPoints>,
    /// The newest rows of `site_logs` and the statistics of a day.
    pub journal: Journal,
    /// When the service was started.
    pub started_at: SystemTime,
}
