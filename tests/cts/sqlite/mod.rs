//! The SQLite store: what cts does to one file, and what it leaves alone.

mod adoption;
mod damage;
mod doctor;
mod faults;
mod first_run;
mod full_disk;
mod healing;
mod kills;
mod query_plans;
mod refusals;
mod starts;
