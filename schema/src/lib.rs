//! The schema of CTS v3.1: the SQL files beside this crate's sources, and the pure model of what
//! they mean. No database and no file is touched here. The build script of `cts` uses this crate to
//! prove the SQL, and the binary to migrate, compare and repair.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod catalog;
pub mod constraint_exception;
pub mod migration;
pub mod reference;
pub mod sql;
pub mod sqlite_catalog;
