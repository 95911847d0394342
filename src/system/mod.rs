//! What the operating system offers, and nothing about databases: log, output, secrets, users, systemd.

pub mod environment;
pub mod log;
pub mod output;
pub mod secret;
pub mod shell;
pub mod signals;
pub mod systemd;
pub mod users;
pub mod version;
