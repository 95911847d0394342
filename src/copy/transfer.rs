//! Writes the copy in one transaction of the target, and proves that it is equal before that is committed.

use super::compare::RowComparison;
use super::plan::CopyPlan;
use super::rows::{RowProgress, read_checked, read_selected};
use super::survey::{Survey, SurveyedTable};
use super::target_rows::refuse_rows;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::migrate::migrate_in;
use crate::store::sql::LEDGER_TABLE;
use crate::store::{
    CopySource, CopyTarget, Database, DatabaseIdentity, LongWork, ReadRows, Snapshot, WaitPolicy,
};
use crate::store::{TableDigest, TableHasher};
use cts_schema::constraint_exception::ConstraintException;

/// What a copy has come to.
#[derive(Debug)]
pub struct CopyReport {
    /// The digest of each table in the target, in the order of the plan.
    pub copies: Vec<TableDigest>,
    /// The rules that the target does not enforce.
    pub exceptions: Vec<ConstraintException>,
}

/// Copies what was surveyed into the target, and compares it there, table by table.
///
/// # Errors
/// [`Kind::Data`] where the target has rows, or a table is not equal; or where a side fails. The target is as it was, unless the
/// error says that the commit is in doubt.
pub fn transfer(
    source: &mut dyn CopySource,
    plan: &CopyPlan,
    survey: &Survey,
    target: &dyn Database,
    wait: &WaitPolicy<'_>,
) -> Result<CopyReport> {
    let identity = target.identity();
    let mut draft = target.begin_copy(wait)?;
    let mut tx = draft.begin(wait)?;
    let mut transfer = Transfer { source, plan, survey, target, identity: &identity, wait };
    let written = transfer.write_all(&mut *tx).map_err(failed_before_commit)?;
    tx.commit(wait)?;
    draft.put_in_place(wait)?;
    Ok(written)
}

/// An error that has ended the transaction. How much is free on a disk that was full shows before the copy is taken away only.
fn failed_before_commit(error: Error) -> Error {
    let error = error.leaving(StateLeft::Unchanged);
    match error.is_disk_full() {
        true => error.remedy(
            "free some space: the copy needs about the size of the source, and the indexes of its largest table once more while they are made",
        ),
        false => error,
    }
}

struct Transfer<'t> {
    source: &'t mut dyn CopySource,
    plan: &'t CopyPlan,
    survey: &'t Survey,
    target: &'t dyn Database,
    identity: &'t DatabaseIdentity,
    wait: &'t WaitPolicy<'t>,
}

impl Transfer<'_> {
    /// Everything up to the commit.
    fn write_all(&mut self, tx: &mut dyn CopyTarget) -> Result<CopyReport> {
        let location = &self.identity.location;
        let in_target = |error: Error| error.at(location);
        refuse_rows(tx, self.identity).map_err(in_target)?;
        migrate_in(tx, self.identity, self.wait).map_err(in_target)?;
        self.refuse_unlike_new(tx)?;
        tx.prepare_tables(&self.plan.tables, &self.plan.exceptions).map_err(in_target)?;
        let copies = self.write_tables(tx)?;
        let exceptions = tx
            .complete_tables(&self.plan.tables, &self.plan.exceptions, self.wait)
            .map_err(in_target)?;
        let completed = tx.inspect().map_err(|error| error.at(location))?;
        self.refuse_drift(&completed)?;
        self.source.prove_in_place()?;
        Ok(CopyReport { copies, exceptions })
    }

    fn write_tables(&mut self, tx: &mut dyn CopyTarget) -> Result<Vec<TableDigest>> {
        let rows = self.survey.rows();
        let mut writing = RowProgress::of(LongWork::CopyingRows, rows, self.wait);
        let mut copies = Vec::new();
        for surveyed in &self.survey.tables {
            let before = match surveyed.table.name == LEDGER_TABLE {
                true => self.digest(tx, surveyed)?,
                false => TableDigest::default(),
            };
            self.write_table(tx, surveyed, &mut writing)?;
            let copy = self.digest(tx, surveyed)?;
            // The ledger of the target may have rows of an older CTS of its own.
            let mut expected = surveyed.digest;
            expected.add_all(&before);
            if copy != expected {
                return Err(self.unequal(tx, surveyed, &expected, &copy));
            }
            let mut copied = copy;
            copied.remove_all(&before);
            copies.push(copied);
        }
        writing.finish();
        Ok(copies)
    }

    fn write_table(
        &mut self,
        tx: &mut dyn CopyTarget,
        surveyed: &SurveyedTable,
        progress: &mut RowProgress<'_>,
    ) -> Result<()> {
        let (table, target) = (&surveyed.table, self.target);
        let source: &mut dyn ReadRows = &mut *self.source;
        let has_problems = surveyed.has_problems;
        tx.write_rows(table, &mut |sink| match has_problems {
            false => read_selected(source, table, progress, &mut |_, row| sink.write(row)),
            true => read_checked(source, table, target, progress, &mut |_, row, problems| {
                if problems.is_empty() { sink.write(row) } else { Ok(()) }
            }),
        })?;
        Ok(())
    }

    /// The digest of a table as the target has it, by its own reading.
    fn digest(&self, tx: &mut dyn CopyTarget, surveyed: &SurveyedTable) -> Result<TableDigest> {
        let mut hasher = TableHasher::default();
        let rows = surveyed.digest.rows;
        let mut progress = RowProgress::of(LongWork::ComparingRows, rows, self.wait);
        read_selected(tx, &surveyed.table, &mut progress, &mut |_, row| {
            hasher.add(row);
            Ok(())
        })?;
        progress.finish();
        hasher.finish()
    }

    /// The error of a table that is not equal on both sides.
    fn unequal(
        &mut self,
        tx: &mut dyn CopyTarget,
        surveyed: &SurveyedTable,
        expected: &TableDigest,
        copy: &TableDigest,
    ) -> Error {
        let table = &surveyed.table;
        let comparison = RowComparison { table, target: self.target, wait: self.wait };
        let differences = comparison.first_differences(self.source, tx);
        let mut what = format!(
            "table {} is not equal on both sides: {} rows, digest {expected} in the source; {} rows, digest {copy} in the copy",
            table.name, expected.rows, copy.rows
        );
        if let Ok(rows) = differences
            && !rows.is_empty()
        {
            let key = if table.key.is_empty() { "row".into() } else { table.key.join(", ") };
            what += &format!("; the first rows that differ, by {key}: {}", rows.join("; "));
        }
        Error::new(Kind::Data, what).at(&self.identity.location).remedy(
            "find what alters rows of the target as they are written (a trigger, a rule, a proxy); the source is as it was",
        )
    }

    /// Refuses a target whose tables are not as those of a new database.
    fn refuse_unlike_new(&self, tx: &mut dyn CopyTarget) -> Result<()> {
        let snapshot = tx.inspect().map_err(|error| error.at(&self.identity.location))?;
        self.refuse_drift(&snapshot)?;
        let Some(exception) = snapshot.exceptions.first() else { return Ok(()) };
        let what = format!("the target has a constraint exception: {exception}");
        Err(Error::new(Kind::Data, what)
            .at(&self.identity.location)
            .remedy("enforce it with `cts repair`, or copy into an empty database or schema"))
    }

    /// Refuses a schema that is not as expected.
    fn refuse_drift(&self, snapshot: &Snapshot) -> Result<()> {
        let drift = snapshot.drift(self.identity.schema);
        let missing = drift.missing.iter().map(|object| format!("{object} is missing"));
        let altered = drift.altered.iter().map(ToString::to_string);
        let Some(first) = missing.chain(altered).next() else { return Ok(()) };
        let what = format!("the schema of the target is not as expected: {first}");
        Err(Error::new(Kind::Data, what)
            .at(&self.identity.location)
            .remedy("copy into an empty database or schema"))
    }
}
