//! What the replies are made of: the side of the service that HTTP asks.

use crate::health::Report;

/// What a running service knows.
pub trait Source: Send + Sync {
    /// A report made after this call, or one that says why there is none. Waits for a database that does
    /// not answer only some seconds.
    fn report(&self) -> Report;
}
