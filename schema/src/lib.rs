//! The schema of CTS v3.1: the SQL files, beside the sources of this crate, and the model of what they mean.
//! No database and no file is used here. The build script of `cts` uses this crate to check the SQL, and the binary to
//! migrate, compare and repair databases.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod catalog;
pub mod constraint_exception;
pub mod migration;
pub mod parity;
pub mod reference;
pub mod sql;
pub mod sqlite_catalog;
