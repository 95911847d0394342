//! What came of a run, as a list of events. Log, `site_logs` and exit code are renderings of it.

use std::time::Duration;

use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::Unchecked;
use cts_schema::catalog::{Correction, CounterFault, Drift, Object};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::migration::UNIFIED;

/// A migration that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationRun {
    /// Its name.
    pub name: &'static str,
    /// Statements that changed something.
    pub applied: usize,
    /// Statements that found their object in place.
    pub skipped: usize,
    /// How long it took.
    pub took: Duration,
}

/// Something that was done, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The database was copied, to this place.
    BackedUp(String),
    /// A damaged index was rebuilt.
    Reindexed(String),
    /// A table was rebuilt: table, rows, all of them kept.
    Rebuilt {
        /// The table.
        table: String,
        /// Its rows, all of them kept.
        rows: u64,
    },
    /// A migration was applied.
    Applied(MigrationRun),
    /// An object that an older CTS did not have was created.
    Created(Object),
    /// A missing object was put back.
    Restored(Object),
    /// An index was built while programs wrote.
    BuiltOnline(Object),
    /// An object is missing and could not be created.
    NotRestored(Object, Error),
    /// An altered table was put right.
    Corrected(Correction),
    /// An altered table could not be put right.
    NotCorrected(Correction, Error),
    /// A constraint of an older CTS, with its table, that the rebuilt table does not have.
    ConstraintDropped(String),
    /// A rule that rows violate was recorded as an exception.
    ExceptionRecorded(ConstraintException),
    /// A rule is enforced again.
    Enforced(ConstraintException),
    /// A counter of ids goes on past those of the rows again.
    CounterAdvanced(CounterFault),
    /// A counter of ids cannot go on.
    CounterNotAdvanced(CounterFault, Error),
    /// A table could not be checked for damage.
    NotChecked(Unchecked),
    /// The table `site_logs` did not take the rows about the run.
    SiteLogFailed(Error),
}

/// What came of a run, all of it committed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The difference from the expected catalogue that remains.
    pub drift: Drift,
}

impl Outcome {
    /// Statements that changed something; a restored object counts as one.
    pub fn applied(&self) -> usize {
        let count = |event: &Event| match event {
            Event::Applied(run) => run.applied,
            Event::Created(_) | Event::Restored(_) | Event::BuiltOnline(_) => 1,
            _ => 0,
        };
        self.events.iter().map(count).sum()
    }
}

impl Outcome {
    /// Whether the tables were created in a database that had none of them: the first migration was applied, and
    /// found no object in place.
    pub fn created_schema(&self) -> bool {
        let first = self.events.iter().find_map(|event| match event {
            Event::Applied(run) => Some(run),
            _ => None,
        });
        let has_copied = self.events.iter().any(|event| matches!(event, Event::BackedUp(_)));
        let is_all_new =
            |run: &MigrationRun| run.name == UNIFIED && run.applied > 0 && run.skipped == 0;
        first.is_some_and(is_all_new) && !has_copied
    }

    /// The missing objects that were created.
    pub fn restored(&self) -> impl Iterator<Item = &Object> {
        self.events.iter().filter_map(|event| match event {
            Event::Restored(object) => Some(object),
            _ => None,
        })
    }

    /// The counters of ids that go on past those of the rows again.
    pub fn advanced(&self) -> impl Iterator<Item = &CounterFault> {
        self.events.iter().filter_map(|event| match event {
            Event::CounterAdvanced(fault) => Some(fault),
            _ => None,
        })
    }

    /// The missing objects that could not be created, the columns whose counter could not be advanced,
    /// and why.
    pub fn not_restored(&self) -> Vec<(Object, Error)> {
        let failed = self.events.iter().filter_map(|event| match event {
            Event::NotRestored(object, error) => Some((object.clone(), error.clone())),
            Event::CounterNotAdvanced(CounterFault { table, column, .. }, error) => {
                Some((Object::Column(table.clone(), column.clone()), error.clone()))
            }
            _ => None,
        });
        failed.collect()
    }

    /// Refuses the outcome of a command whose role may not put something back. The rest is done.
    ///
    /// # Errors
    /// [`Kind::Permission`], with the first object.
    pub fn refuse_missing_rights(&self) -> Result<()> {
        let mut refused = self.events.iter().filter_map(|event| match event {
            Event::NotRestored(object, error) => Some((object, error)),
            _ => None,
        });
        let Some((object, error)) = refused.find(|(_, error)| error.kind == Kind::Permission)
        else {
            return Ok(());
        };
        let state = match has_changes(&self.events) {
            true => StateLeft::EarlierCommits,
            false => StateLeft::Unchanged,
        };
        Err(error.clone().at(object).leaving(state))
    }

    /// Why the table `site_logs` did not take the rows about the run.
    pub fn site_log_error(&self) -> Option<&Error> {
        self.events.iter().find_map(|event| match event {
            Event::SiteLogFailed(error) => Some(error),
            _ => None,
        })
    }
}

/// Whether any of the events changed the database.
pub fn has_changes(events: &[Event]) -> bool {
    let is_change = |event: &Event| {
        !matches!(
            event,
            Event::BackedUp(_)
                | Event::NotRestored(..)
                | Event::CounterNotAdvanced(..)
                | Event::NotCorrected(..)
                | Event::NotChecked(_)
                | Event::SiteLogFailed(_)
        )
    };
    events.iter().any(is_change)
}
