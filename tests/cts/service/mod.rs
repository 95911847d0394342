//! The running service: HTTP, start and stop, the unit under systemd, and trading programs beside it.

mod access;
mod attacks;
mod automatic_backups;
mod backups_seen;
mod conditions;
mod http;
mod lifecycle;
pub mod litestream;
mod log;
mod long_wal;
mod metrics;
mod monitoring;
mod names;
mod off_box;
mod overview;
mod overwritten;
mod page;
mod sandbox;
mod signals;
mod trading_programs;
mod two_databases;
mod under_systemd;
mod unit_files;
