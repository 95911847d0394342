//! The history of a day in the overview.

use serde::Serialize;

use crate::health::Status;
use crate::health::history::HistoryPoints;

/// `history`: each list has one value a point, the oldest first; the last one is that of `endsAt`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryJson {
    interval_seconds: u64,
    ends_at: String,
    size_bytes: Vec<Option<u64>>,
    wal_size_bytes: Vec<Option<u64>>,
    disk_free_bytes: Vec<Option<u64>>,
    response_seconds: Vec<Option<f64>>,
    status: Vec<Option<Status>>,
}

impl HistoryJson {
    /// The points, of which the last one was recorded at `ends_at`.
    pub fn of(history: &HistoryPoints, ends_at: String) -> HistoryJson {
        let points = &history.points;
        let micro = |value: f32| (f64::from(value) * 1e6).round() / 1e6;
        HistoryJson {
            interval_seconds: history.interval.as_secs(),
            ends_at,
            size_bytes: points.iter().map(|point| point.size_bytes).collect(),
            wal_size_bytes: points.iter().map(|point| point.wal_size_bytes).collect(),
            disk_free_bytes: points.iter().map(|point| point.disk_free_bytes).collect(),
            response_seconds: points.iter().map(|p| p.response_seconds.map(micro)).collect(),
            status: points.iter().map(|point| point.status).collect(),
        }
    }
}
