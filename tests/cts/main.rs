//! cts as its operators meet it: the real binary, real files, real signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[cfg(feature = "postgres")]
mod certs;
#[cfg(feature = "postgres")]
#[allow(dead_code)]
mod cluster;
mod harness;
mod old;
mod scenario;

mod access;
mod adoption;
mod attacks;
mod booted;
mod both;
mod build;
mod clients;
mod damage;
mod doctor;
mod faults;
mod first_run;
mod full_disk;
mod healing;
mod http;
mod kills;
mod plans;
#[cfg(feature = "postgres")]
mod postgres_adoption;
#[cfg(feature = "postgres")]
mod postgres_doctor;
#[cfg(feature = "postgres")]
mod postgres_failover;
#[cfg(feature = "postgres")]
mod postgres_full_disk;
#[cfg(feature = "postgres")]
mod postgres_indexes;
#[cfg(feature = "postgres")]
mod postgres_kills;
#[cfg(feature = "postgres")]
mod postgres_locks;
#[cfg(feature = "postgres")]
mod postgres_outages;
#[cfg(feature = "postgres")]
mod postgres_schema;
#[cfg(feature = "postgres")]
mod postgres_secrets;
#[cfg(feature = "postgres")]
mod postgres_tls;
mod refusals;
mod schema_reference;
mod service;
mod starts;
mod systemd;
