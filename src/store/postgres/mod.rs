//! The PostgreSQL store: a server, reached through a small pool of connections. Only the files of this
//! folder use the crates `tokio-postgres`, `r2d2` and `rustls`; a build without the feature has none of it.
//!
//! - [`database`], [`store`], [`transaction`] with [`statements`] and [`cancel_watch`]: the traits of the seam
//! - [`url`], [`tls`], [`connect`], [`session`], [`settings`], [`row`], [`pool`], [`pooler`], [`error`]: connections, which [`client`] opens with
//!   [`server_address`], within the bounds of [`answer_watch`] and [`answer_limits`] with [`reported_settings`] and
//!   [`copy_state`]
//! - [`cluster`], [`survey`], [`server_identity`], [`server_record`]: which host of the URL is used
//! - [`inspect`], [`journal`], [`catalog`], [`constraint`], [`attributes`], [`ledger`], [`exceptions`], [`damage`], [`counters`]: what is in the database
//! - [`lock`]: the migration lock; [`obstacles`]: what prevents the creation of missing objects
//! - [`existing_table`], [`violations`], [`rebuild_plan`], [`refusals`], [`rebuild`], [`conversion`],
//!   [`sequences`], [`rebuild_copy`]: the adoption of an older CTS
//! - [`copy_rows`] with [`copy_columns`] and [`copy_format`]: the rows of a table, read and written by binary COPY
//! - [`correction`]: altered tables that are put right
//! - [`index`], [`online_index`] with [`index_builds`] and [`standalone`]: indexes, in a transaction and while programs write
//! - [`foreign_code`]: code of other roles that would run with the rights of ours
//! - [`backup`], with [`client_program`], [`client_environment`], [`client_run`], [`client_watch`] and [`dump_file`], [`restore`],
//!   [`trial`]: backups, by `pg_dump` and `pg_restore`
//! - [`copy_end`], [`copy_source`], [`copy_target`] with [`copy_shape`], [`copy_objects`], [`copy_keys`] and [`copy_completion`]: both ends of a copy
//! - [`checkup`], [`role`]: `cts doctor`; [`measure`]: sizes and rows, taken now and then; [`statistics`]: those of positions

mod answer_limits;
mod answer_watch;
mod attributes;
mod backup;
mod cancel_watch;
mod catalog;
mod checkup;
mod client;
mod client_environment;
mod client_program;
mod client_run;
mod client_watch;
mod cluster;
mod compact;
mod connect;
mod constraint;
mod conversion;
mod copy_columns;
mod copy_completion;
mod copy_end;
mod copy_format;
mod copy_keys;
mod copy_objects;
mod copy_rows;
mod copy_shape;
mod copy_source;
mod copy_state;
mod copy_target;
mod correction;
mod counters;
mod damage;
mod database;
mod dump_file;
mod engine;
mod error;
mod exceptions;
mod existing_table;
mod foreign_code;
mod index;
mod index_builds;
mod inspect;
mod journal;
mod ledger;
mod lock;
mod measure;
mod obstacles;
mod online_index;
mod pool;
mod pooler;
mod privileges;
mod rebuild;
mod rebuild_copy;
mod rebuild_plan;
mod refusals;
mod reported_settings;
mod restore;
mod retention;
mod role;
mod row;
mod sequences;
mod server_address;
mod server_identity;
mod server_record;
mod session;
mod settings;
mod space;
mod standalone;
mod statements;
#[allow(dead_code)]
mod statistics;
mod store;
mod survey;
mod tls;
mod transaction;
mod trial;
mod url;
mod violations;

pub use client_program::ProgramPlaces;
pub use database::DatabaseServer;
pub use pool::PoolSettings;
pub use url::Target;
