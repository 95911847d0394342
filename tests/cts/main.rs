//! cts as its operators use it: the real binary, real files, real servers, real signals.
//!
//! | folder | what is tested |
//! |---|---|
//! | `sqlite/` | the store in one file: creation, migration, adoption, repair, damage, refusals |
//! | `postgres/` | the same on a PostgreSQL server, and what only a server has |
//! | `both/` | one suite that both stores pass |
//! | `copy/` | rows copied from one store to the other |
//! | `service/` | the running service: HTTP, signals, systemd, trading programs beside it |
//! | `packages/` | the packages, installed and removed |
//! | `project/` | the sources themselves: what the build proves, and what the pages say |
//! | `support/` | what the tests share: runs of the binary, servers, containers, older databases |
//!
//! Tests that take long are marked `#[ignore]`; `cargo test -- --include-ignored` runs them too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

mod both;
#[cfg(feature = "postgres")]
mod copy;
mod packages;
#[cfg(feature = "postgres")]
mod postgres;
mod project;
mod service;
mod sqlite;
