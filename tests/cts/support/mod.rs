//! What the tests share. No test stands here.

#[cfg(feature = "postgres")]
pub mod certs;
#[cfg(feature = "postgres")]
pub mod cluster;
pub mod container;
pub mod harness;
pub mod old;
pub mod project;
pub mod scenario;
pub mod statements;
