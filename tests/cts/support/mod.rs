//! What the tests share. There are no tests here.

#[cfg(feature = "postgres")]
pub mod certs;
#[cfg(feature = "postgres")]
pub mod cluster;
pub mod container;
pub mod disk;
pub mod harness;
pub mod kills;
pub mod manifest;
pub mod older_databases;
#[cfg(feature = "postgres")]
pub mod patroni;
#[cfg(feature = "postgres")]
pub mod pglite;
pub mod project;
pub mod random;
pub mod scenario;
pub mod statements;
