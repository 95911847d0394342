//! The PostgreSQL store: a server, reached through a small pool of connections. Only the files of this
//! folder use the crates `postgres`, `r2d2` and `rustls`; a build without the feature has none of it.

mod backup;
mod checkup;
mod conversion;
mod database;
mod error;
mod exceptions;
mod existing_table;
mod index;
mod inspect;
mod lock;
mod obstacles;
mod rebuild;
mod refusals;
mod sequences;
mod session;
mod store;
mod tls;
mod transaction;
mod url;

pub use database::DatabaseServer;
pub use session::PoolSettings;
pub use url::Target;
