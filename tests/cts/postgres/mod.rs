//! The PostgreSQL store, on servers that the tests start, stop, pause and kill.

mod adoption;
mod attributes;
mod backup;
mod backup_faults;
mod backups_seen;
mod counters;
mod doctor;
mod drill;
mod engines;
mod failover;
mod foreign_code;
mod full_disk;
mod indexes;
mod kills;
mod locks;
mod outages;
mod patroni;
mod refused_healing;
mod restore;
mod rights;
mod schema;
mod secrets;
mod servers;
mod tls;
mod unchecked;
