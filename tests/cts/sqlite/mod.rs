//! The SQLite store: what cts does with one file, and what it refuses.

mod adoption;
mod backup;
mod backup_proof;
mod compact;
mod console;
mod damage;
mod definitions;
mod doctor;
mod doctor_backups;
#[cfg(feature = "postgres")]
mod doctor_moving;
mod failed_calls;
mod faults;
mod files;
mod first_run;
mod foreign_text;
mod full_disk;
mod healing;
mod hot_journal;
mod independent_measures;
mod kills;
mod looks;
mod old_backups;
mod query_plans;
mod refusals;
mod refused_healing;
mod restore;
mod retention;
mod retention_faults;
mod rights;
mod settings;
mod starts;
mod statistics;
mod statistics_sweeps;
mod unchecked;
mod wal_pairs;
