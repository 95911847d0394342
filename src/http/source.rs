//! What the replies are made of: the side of the service that HTTP asks.

use crate::health::{Overview, Report};

/// What a running service knows.
pub trait Source: Send + Sync {
    /// A report made after this call, or one that says why there is none. Waits for a database that does
    /// not answer only some seconds.
    fn report(&self) -> Report;

    /// What the status page draws, with a report as [`Source::report`] gives it. Waits for what else is in it a second at
    /// most.
    fn overview(&self, with_history: bool) -> Overview;

    /// The metrics as Prometheus reads them. Waits no longer than [`Source::report`].
    fn metrics(&self) -> String;
}
