//! What the content of a report means: the reasons that are found in it, and the status that follows.

use serde::Serialize;

use super::conditions::{Condition, Subject};
use super::missing::{missing_objects_now, missing_reasons};
use super::reason::{Reason, RemedyCommand, Severity};
use super::report::{DriftCounts, Report, Surroundings};
use crate::error::{Error, Kind};
use crate::migrate::assessment::Assessment;
use crate::store::schema::Schema;
use crate::store::{Damage, MissingRights, Orphans, Snapshot, StorageStatus};
use crate::system::size::Bytes;
use cts_schema::catalog::{Alteration, CRITICAL, Drift};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// With fewer free bytes the database cannot be used: the WAL and the shared memory of a busy database
/// need about as much.
const DISK_FULL_BYTES: u64 = 16 << 20;
/// With fewer free bytes, and less than 5 % of the disk, the operator should act.
const DISK_LOW_BYTES: u64 = 1 << 30;
/// With fewer free inodes, and less than 5 % of all, the operator should act.
const INODES_LOW: u64 = 1000;
/// How many damaged pages are named.
const DAMAGED_PAGES_SHOWN: usize = 3;

/// No table is left that could be repaired.
pub const NO_TABLE: &str =
    "no table of CTS is left; `cts migrate` or a restart of cts creates them, without rows";

/// The status of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything expected is there and usable.
    Healthy,
    /// Usable, but something needs attention.
    Degraded,
    /// Not usable.
    Unhealthy,
    /// Migrations are running.
    Initializing,
}

impl Status {
    /// Its name in JSON and text.
    pub fn name(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Degraded => "degraded",
            Status::Unhealthy => "unhealthy",
            Status::Initializing => "initializing",
        }
    }

    /// What it means.
    pub fn sentence(self) -> &'static str {
        match self {
            Status::Healthy => "Everything expected is there and usable.",
            Status::Degraded => "The database can be used, and a person should attend to it.",
            Status::Unhealthy => "The database cannot be used.",
            Status::Initializing => "The database is opened and brought up to date.",
        }
    }

    /// Whether trading programs can use the database.
    pub fn is_usable(self) -> bool {
        matches!(self, Status::Healthy | Status::Degraded)
    }

    /// The exit code of `--check`.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Healthy => 0,
            Status::Degraded | Status::Initializing => 1,
            Status::Unhealthy => 2,
        }
    }
}

impl Report {
    /// The status: the one decision, of which every answer is a rendering.
    pub fn status(&self) -> Status {
        let has = |severity| self.reasons_found.iter().any(|reason| reason.severity == severity);
        if self.initializing {
            Status::Initializing
        } else if !self.connected || has(Severity::Critical) {
            Status::Unhealthy
        } else if has(Severity::Warning) {
            Status::Degraded
        } else {
            Status::Healthy
        }
    }

    /// The reasons, by how much they matter.
    pub fn reasons(&self) -> Vec<&str> {
        self.sorted_reasons().into_iter().map(|reason| &*reason.text).collect()
    }

    /// The command that puts a reason right; `None` where there is nothing to do, or cts is at it.
    pub fn command_for(&self, reason: &Reason) -> Option<RemedyCommand> {
        reason.command.filter(|_| !self.initializing)
    }

    /// The command for the reason that matters most.
    pub fn command(&self) -> Option<RemedyCommand> {
        self.sorted_reasons().into_iter().find_map(|reason| self.command_for(reason))
    }

    /// The reasons, by how much they matter.
    pub fn sorted_reasons(&self) -> Vec<&Reason> {
        let mut reasons: Vec<&Reason> = self.reasons_found.iter().collect();
        reasons.sort_by_key(|reason| reason.severity);
        reasons
    }

    /// Adds what the ledger and the catalogue give reason for, and what is pending.
    pub(super) fn judge_schema(
        &mut self,
        schema: &'static Schema,
        snapshot: &Snapshot,
        surroundings: &Surroundings,
    ) {
        let has_any = !self.tables.is_empty();
        if !has_any {
            let reason = Reason::critical(NO_TABLE).with_command(RemedyCommand::Migrate);
            self.reasons_found.push(reason);
        }
        let drift = self.judge_ledger(schema, snapshot);
        self.accepted = drift.accepted.clone();
        self.drift = Some(DriftCounts::of(&drift));
        let missing = missing_objects_now(&drift, surroundings);
        self.pending.extend(missing.iter().map(|found| found.object.to_string()));
        if has_any {
            self.reasons_found.extend(missing_reasons(&self.tables, missing));
        }
        let altered = drift.altered.iter().map(Alteration::with_remedy);
        self.reasons_found.extend(altered.map(Reason::warning));
        let counters = drift.counters.iter().map(|fault| {
            let reason = Reason::warning(format!("{fault}; `cts repair` advances them"));
            reason.with_command(RemedyCommand::Repair)
        });
        self.reasons_found.extend(counters);
    }

    /// Adds which migrations are pending, or why the ledger is refused. Returns the drift.
    fn judge_ledger(&mut self, schema: &'static Schema, snapshot: &Snapshot) -> Drift {
        if self.applied.iter().any(|row| row.name == schema.fallback.name) {
            self.expected_migrations += 1;
        }
        match Assessment::of(schema, snapshot) {
            Ok(assessment) => {
                self.pending = assessment.pending.iter().map(|m| m.name.to_string()).collect();
                let pending = self.pending.iter().map(|name| {
                    let reason = Reason::warning(format!("migration {name} is pending"));
                    reason.with_command(RemedyCommand::Migrate)
                });
                self.reasons_found.extend(pending);
                assessment.drift
            }
            Err(error) => {
                self.pending = vec![error.message()];
                self.reasons_found.push(Reason::warning(error.to_string()));
                snapshot.drift(schema)
            }
        }
    }

    /// Adds what storage, conditions and damage give reason for.
    pub(super) fn judge_surroundings(&mut self, schema: &Schema, surroundings: &Surroundings) {
        let Surroundings { storage, conditions, damage, unknown, wal_kept_by_cts, missing: _ } =
            surroundings;
        let unwritable = storage.unwritable();
        self.reasons_found.extend(storage.replaced.clone().map(Reason::critical));
        let remedy = storage.write_remedy.as_ref().map(|remedy| format!(". Try: {remedy}"));
        let remedy = remedy.unwrap_or_default();
        self.reasons_found.extend(unwritable.map(|why| Reason::critical(format!("{why}{remedy}"))));
        self.reasons_found.extend(storage.unanswered.as_ref().map(unanswered_reason));
        let is_shown = |condition: &&Condition| match condition.subject {
            // Why the storage cannot be written says more than the write that failed for it.
            Subject::Write => unwritable.is_none(),
            _ => true,
        };
        self.reasons_found.extend(conditions.iter().filter(is_shown).map(|c| c.reason()));
        self.note_backup_conditions(conditions);
        self.judge_damage(schema, damage);
        self.reasons_found.extend(storage.missing_rights.as_ref().map(rights_reason));
        let notices = unknown.iter().chain(wal_kept_by_cts);
        self.reasons_found.extend(notices.cloned().map(Reason::notice));
        self.reasons_found.extend(disk_reason(storage));
        self.reasons_found.extend(inode_reason(storage));
    }

    fn judge_damage(&mut self, schema: &Schema, damage: &Damage) {
        let pages = damage.pages.iter().take(DAMAGED_PAGES_SHOWN);
        let mut critical: Vec<String> = pages.map(|line| format!("damaged: {line}")).collect();
        match damage.indexes.first() {
            Some(index) => critical.push(format!(
                "index {index}: no row is damaged, and `cts repair` rebuilds the index"
            )),
            None if !damage.pages.is_empty() => critical.push(
                "restore a backup (SQLite: with no -wal and -shm beside it), or save what can be read with `.recover` of the sqlite3 shell"
                    .into(),
            ),
            None => {}
        }
        // Rows of other programs' tables are not judged, and a recorded exception is known.
        let is_excepted = |orphans: &Orphans| {
            self.exceptions.iter().any(|exception: &ConstraintException| {
                exception.table == orphans.table && matches!(exception.rule, Rule::ForeignKey(_))
            })
        };
        let judged = |orphans: &&Orphans| {
            schema.expected.table(&orphans.table).is_some() && !is_excepted(orphans)
        };
        let orphans: Vec<Reason> = damage
            .orphans
            .iter()
            .filter(judged)
            .map(|orphans| Reason::warning(orphans.to_string()))
            .collect();
        self.reasons_found.extend(critical.into_iter().map(Reason::critical));
        self.reasons_found.extend(orphans);
        // What is not ours is named, and judged by its own program.
        let unchecked = damage.unchecked.iter().map(|unchecked| {
            match schema.expected.table(&unchecked.table) {
                Some(_) => Reason::warning(unchecked.to_string()),
                None => Reason::notice(unchecked.to_string()),
            }
        });
        self.reasons_found.extend(unchecked);
    }
}

/// What a file system that does not answer gives reason for: an I/O error is one of the disk of the
/// database; otherwise its state is unknown.
pub fn unanswered_reason(error: &Error) -> Reason {
    match error.kind {
        Kind::Io => Reason::critical(error.to_string()),
        _ => Reason::warning(error.to_string()),
    }
}

/// What missing rights of a role give reason for. The role of a monitoring program, or of one that writes some tables
/// only, needs no more than it has, and sees nothing of the rights of the others.
fn rights_reason(rights: &MissingRights) -> Reason {
    if !rights.is_writer {
        return Reason::notice(rights.to_string());
    }
    let text = format!("{rights}. Try: {}", rights.remedy());
    match rights.tables.iter().any(|missing| CRITICAL.contains(&missing.table.as_str())) {
        true => Reason::critical(text),
        false => Reason::warning(text),
    }
}

/// What the free space of the disk gives reason for; nothing if it is unknown.
pub fn disk_reason(storage: &StorageStatus) -> Option<Reason> {
    let (free, total) = (storage.free_bytes?, storage.total_bytes?);
    let text = format!("{} are free on the disk of the database", Bytes(free));
    match free {
        _ if free < DISK_FULL_BYTES => Some(Reason::critical(text)),
        _ if free < DISK_LOW_BYTES && free < total / 20 => Some(Reason::warning(text)),
        _ => None,
    }
}

/// What the free inodes of the file system give reason for; nothing if they are unknown. Without one no file
/// can be created, however much space is free: the database cannot be opened where its `-wal` or `-shm`
/// is missing, and a running service goes on with those that it has.
pub fn inode_reason(storage: &StorageStatus) -> Option<Reason> {
    let (free, total) = (storage.free_inodes?, storage.total_inodes?);
    let text = format!(
        "{free} of {total} inodes are free on the file system of the database: files that are not needed can be removed (`df -i`)"
    );
    match free {
        _ if free < storage.inodes_needed => Some(Reason::critical(text)),
        0 => Some(Reason::warning(text)),
        _ if free < INODES_LOW && free < total / 20 => Some(Reason::warning(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
