//! The SQLite store: one file, opened with care, in WAL mode. Only the files of this folder use the crate
//! `rusqlite`.

mod backup;
mod catalog;
mod checkpoint;
mod checkup;
mod connect;
mod database;
mod draft;
mod error;
mod exceptions;
mod file;
mod inspect;
mod rebuild;
mod store;
mod transaction;

pub use database::{DatabaseFile, FileAccess};
pub use store::Sqlite;
