//! Brings a database to the schema of this binary: decides what is pending and missing,
//! and does it in one transaction under the write lock. Knows the store only through its
//! seam, and says nothing; what was done is its result.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::catalog::{Catalog, Column, Drift, Object};
use crate::error::{Error, Kind, Result};
use crate::migration::{Migration, Refusal, Statement, Subject, pending};
use crate::schema::{Schema, VERSION};
use crate::store::{Effect, Look, Note, Patience, Store, Tx, interrupted};

/// What is to be done, as one look shows it.
#[derive(Debug)]
pub struct Plan {
    /// Migrations that the ledger does not hold.
    pub pending: Vec<Migration>,
    /// What differs from the expected catalogue.
    pub drift: Drift,
}

impl Plan {
    /// Decides what is to be done, or why nothing may be.
    pub fn of(schema: &Schema, look: &Look) -> Result<Plan> {
        let pending = pending(&schema.migrations, &schema.fallback, &look.ledger)
            .map_err(|refusal| refused(&refusal))?;
        Ok(Plan { pending, drift: schema.expected.difference(&look.catalog) })
    }

    /// Whether nothing is pending and nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.drift.missing.is_empty()
    }
}

fn refused(refusal: &Refusal) -> Error {
    let remedy = match refusal {
        Refusal::Edited { .. } => "start the cts that applied it, or put the file back as it was and build again; a change is a new migration".into(),
        Refusal::Unknown { by, .. } => {
            let newer = by.as_deref().unwrap_or("that applied it");
            format!("start cts {newer} or later, or restore a backup made before the upgrade")
        }
    };
    Error::new(Kind::Data, format!("{refusal} (this is cts {VERSION})")).remedy(remedy)
}

/// A migration that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: &'static str,
    /// Statements that changed something.
    pub applied: usize,
    /// Statements that found their object in place.
    pub skipped: usize,
    /// How long it took.
    pub took: Duration,
}

/// What was done, all of it committed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The migrations that were applied, in order.
    pub runs: Vec<Run>,
    /// What was missing and has been put back.
    pub put_back: Vec<Object>,
    /// What is missing and could not be put back, and why.
    pub left: Vec<(Object, Error)>,
    /// The difference that remains.
    pub drift: Drift,
    /// Why what was done could not be noted in `site_logs`.
    pub unnoted: Option<Error>,
}

impl Outcome {
    /// Statements that changed something, those that put something back included.
    pub fn applied(&self) -> usize {
        self.runs.iter().map(|run| run.applied).sum::<usize>() + self.put_back.len()
    }
}

/// Brings the database up to date. Whether there is work is first looked up without the
/// lock; what the work is, is decided under it.
pub fn bring_up_to_date(store: &mut dyn Store, patience: &Patience<'_>) -> Result<Outcome> {
    let (schema, location) = (store.schema(), store.location());
    match store.look() {
        Ok(look) => {
            let plan = Plan::of(schema, &look).map_err(|error| unchanged(error, &location))?;
            if plan.is_empty() {
                return Ok(Outcome { drift: plan.drift, ..Outcome::default() });
            }
        }
        // Somebody is writing; the lock below waits for it.
        Err(error) if error.kind == Kind::TryAgain && !patience.stop.load(Ordering::Relaxed) => {}
        Err(error) => return Err(error),
    }
    let mut tx = store.lock(patience)?;
    let work = Work { schema, patience };
    let outcome = work.run(&mut *tx).map_err(|error| unchanged(error, &location))?;
    if !outcome.runs.is_empty() || !outcome.put_back.is_empty() {
        tx.commit(patience).map_err(|error| unchanged(error, &location))?;
    }
    Ok(outcome)
}

/// Everything runs in one transaction, so an error leaves what was there before.
fn unchanged(error: Error, location: &str) -> Error {
    let error = if error.what.contains(location) { error } else { error.at(location) };
    if error.what.contains("nothing was changed") {
        error
    } else {
        error.leaving("nothing was changed")
    }
}

/// The work under the lock.
struct Work<'w> {
    schema: &'static Schema,
    patience: &'w Patience<'w>,
}

impl Work<'_> {
    fn run(&self, tx: &mut dyn Tx) -> Result<Outcome> {
        let look = tx.look()?;
        let plan = Plan::of(self.schema, &look)?;
        if plan.is_empty() {
            return Ok(Outcome { drift: plan.drift, ..Outcome::default() });
        }
        if !look.catalog.is_empty() {
            refuse_damage(tx)?;
        }
        let is_first = !look.ledger.iter().any(|row| row.is_ours());
        let mut outcome = Outcome::default();
        if is_first && !look.catalog.is_empty() {
            self.adopt(tx, &plan.pending, &mut outcome)?;
        } else {
            outcome.runs = self.apply_where_things_may_lack(tx, &plan.pending, &mut outcome)?;
            self.heal(tx, &mut outcome)?;
        }
        outcome.drift = self.schema.expected.difference(&tx.look()?.catalog);
        match tx.attempt(&mut |tx| write_notes(tx, &outcome)) {
            Ok(()) => {}
            // A `site_logs` that somebody has changed must not stop the box.
            Err(error) if error.kind == Kind::Data => outcome.unnoted = Some(error),
            Err(error) => return Err(error),
        }
        Ok(outcome)
    }

    fn apply(&self, tx: &mut dyn Tx, migrations: &[Migration]) -> Result<Vec<Run>> {
        migrations.iter().map(|migration| self.apply_one(tx, migration)).collect()
    }

    /// What is pending may build on what somebody has dropped: that is put back first then.
    fn apply_where_things_may_lack(
        &self,
        tx: &mut dyn Tx,
        pending: &[Migration],
        outcome: &mut Outcome,
    ) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let fits = tx.attempt(&mut |tx| {
            runs = self.apply(tx, pending)?;
            Ok(())
        });
        match fits {
            Err(error) if error.kind == Kind::Data => {
                self.heal(tx, outcome)?;
                self.apply(tx, pending)
            }
            other => other.map(|()| runs),
        }
    }

    fn apply_one(&self, tx: &mut dyn Tx, migration: &Migration) -> Result<Run> {
        let start = Instant::now();
        let (mut applied, mut skipped) = (0, 0);
        for statement in migration.statements() {
            if self.patience.stop.load(Ordering::Relaxed) {
                return Err(interrupted());
            }
            let effect =
                tx.execute(&statement).map_err(|error| error.at(place(migration, &statement)))?;
            match effect {
                Effect::Applied => applied += 1,
                Effect::Skipped => skipped += 1,
            }
        }
        let took = start.elapsed();
        tx.record(migration, took)?;
        Ok(Run { name: migration.name, applied, skipped, took })
    }

    /// A database of an older CTS. Where the unified setup does not fit what is there, the
    /// fallback prepares the ledger and the rest is completed from the catalogue first. What
    /// would still differ after that is refused: nothing is adopted by halves.
    fn adopt(&self, tx: &mut dyn Tx, pending: &[Migration], outcome: &mut Outcome) -> Result<()> {
        let mut runs = Vec::new();
        let fits = tx.attempt(&mut |tx| {
            runs = self.apply(tx, pending)?;
            Ok(())
        });
        match fits {
            Ok(()) => {}
            Err(error) if error.kind == Kind::Data => {
                runs = vec![self.apply_one(tx, &self.schema.fallback)?];
                self.heal(tx, outcome)?;
                self.refuse_unconvertible(tx)?;
                runs.extend(self.apply(tx, pending)?);
            }
            Err(error) => return Err(error),
        }
        outcome.runs = runs;
        self.heal(tx, outcome)?;
        self.refuse_unconvertible(tx)
    }

    fn refuse_unconvertible(&self, tx: &mut dyn Tx) -> Result<()> {
        let drift = self.schema.expected.difference(&tx.look()?.catalog);
        if drift.is_none() { Ok(()) } else { Err(unconvertible(&drift)) }
    }

    /// Puts back what is missing: tables and their rows, then columns, then indexes.
    fn heal(&self, tx: &mut dyn Tx, outcome: &mut Outcome) -> Result<()> {
        for step in [is_table, is_column, is_index] {
            let missing = self.schema.expected.difference(&tx.look()?.catalog).missing;
            if missing.is_empty() {
                return Ok(());
            }
            for object in missing.into_iter().filter(step) {
                self.mend(tx, object, outcome)?;
            }
        }
        // What is believed is what a look finds.
        let missing = self.schema.expected.difference(&tx.look()?.catalog).missing;
        for object in outcome.put_back.extract_if(.., |object| missing.contains(object)) {
            let what = "something else has its name".to_string();
            let error = Error::new(Kind::Data, what).remedy("rename what has its name");
            outcome.left.push((object, error));
        }
        Ok(())
    }

    fn mend(&self, tx: &mut dyn Tx, object: Object, outcome: &mut Outcome) -> Result<()> {
        if outcome.left.iter().any(|(left, _)| *left == object) {
            return Ok(());
        }
        match tx.attempt(&mut |tx| self.put_back(tx, &object)) {
            Ok(()) => outcome.put_back.push(object),
            Err(error) if error.kind == Kind::Data => outcome.left.push((object, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn put_back(&self, tx: &mut dyn Tx, object: &Object) -> Result<()> {
        match object {
            Object::Table(table) => {
                self.rerun(tx, &Subject::Table(table.clone()))?;
                self.rerun(tx, &Subject::Rows(table.clone()))
            }
            Object::Column(table, column) => match column_of(self.schema.expected, table, column) {
                Some(column) => tx.add_column(table, column),
                None => Ok(()),
            },
            Object::Index(_, index) => self.rerun(tx, &Subject::Index(index.clone())),
        }
    }

    /// Runs the bundled statements that make `subject` once more.
    fn rerun(&self, tx: &mut dyn Tx, subject: &Subject) -> Result<()> {
        for migration in &self.schema.migrations {
            for statement in migration.statements().iter().filter(|s| s.subject() == *subject) {
                tx.execute(statement).map_err(|error| error.at(place(migration, statement)))?;
            }
        }
        Ok(())
    }
}

/// The error of a database of an older CTS that would still differ.
pub fn unconvertible(drift: &Drift) -> Error {
    let differences = drift
        .altered
        .iter()
        .map(ToString::to_string)
        .chain(drift.missing.iter().map(|object| format!("{object} is missing")))
        .collect::<Vec<_>>();
    let first = differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let what = format!(
        "this database of an older CTS differs in {} places that cts {VERSION} cannot convert: {first}",
        differences.len()
    );
    Error::new(Kind::Data, what)
        .remedy("keep it, start cts on a new file, and copy the rows that you need")
}

fn is_table(object: &Object) -> bool {
    matches!(object, Object::Table(_))
}

fn is_column(object: &Object) -> bool {
    matches!(object, Object::Column(..))
}

fn is_index(object: &Object) -> bool {
    matches!(object, Object::Index(..))
}

fn column_of<'c>(catalog: &'c Catalog, table: &str, column: &str) -> Option<&'c Column> {
    catalog.table(table)?.columns.iter().find(|c| c.name == column)
}

/// File, line and statement, for an error.
fn place(migration: &Migration, statement: &Statement<'_>) -> String {
    let sql = crate::migration::fold(statement.sql);
    let mut short: String = sql.chars().take(100).collect();
    if short.len() < sql.len() {
        short.push('…');
    }
    format!("{}, line {}: {short}", migration.name, statement.line)
}

fn refuse_damage(tx: &mut dyn Tx) -> Result<()> {
    match tx.find_damage()?.pages.first() {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Data, format!("the database is damaged ({first}) and is not migrated"))
            .leaving("nothing was changed")
            .remedy("stop the trading programs, keep a copy of the file, and restore a backup (`cts --check --deep` tells what is damaged)")),
    }
}

fn write_notes(tx: &mut dyn Tx, outcome: &Outcome) -> Result<()> {
    for Run { name, applied, skipped, took } in &outcome.runs {
        let message = format!(
            "cts {VERSION} applied {name}: {applied} applied, {skipped} skipped, {} ms",
            took.as_millis()
        );
        tx.note(&Note { level: "info", message })?;
    }
    if !outcome.put_back.is_empty() {
        let objects =
            outcome.put_back.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tx.note(&Note { level: "warn", message: format!("cts {VERSION} put back: {objects}") })?;
    }
    Ok(())
}
