//! What differs between the statistics of a day as they are stored and as they are calculated, and what has to be written.

use std::collections::{BTreeMap, BTreeSet};

use super::consistency::{inconsistencies, source_of, sum_of_sources};
use super::day::CalculatedDay;
use crate::store::{
    Day, SourceLeft, StatisticsChange, StatisticsKey, StatisticsRow, StatisticsTable,
    StatisticsValues, StoredStatistics, TableDigest, UNREADABLE_DAY,
};

/// Rows that one change has at most, so that a transaction that makes one change holds the write lock for some
/// milliseconds only.
const CHANGE_ROWS_MAX: usize = 200;

/// A day as it is calculated and as it is stored.
pub struct ComparedDay {
    /// The day.
    pub day: Day,
    /// What was calculated.
    pub calculated: CalculatedDay,
    /// Number and digest of the positions that are there, by connection.
    pub present: BTreeMap<String, TableDigest>,
    /// What is stored.
    pub stored: Vec<StoredStatistics>,
    /// The last day of which retention has deleted positions, as it has recorded.
    pub last_final_day: Option<Day>,
}

/// Why the statistics of a day and connection cannot be calculated again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalReason<'s> {
    /// Retention has begun to delete the positions, and left these.
    Begun(&'s SourceLeft),
    /// So many of the positions that were counted are gone, and `statistics_daily` does not say that retention deleted
    /// them: its row was altered or deleted.
    Unrecorded(u64),
}

/// A row of statistics that is not as it is calculated.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsDifference {
    /// What the row is of.
    pub key: StatisticsKey,
    /// How it differs.
    pub kind: DifferenceKind,
    /// The columns of an altered row that differ.
    pub columns: Vec<&'static str>,
    /// Whether the statistics are not calculated again, since their positions are gone.
    pub is_final: bool,
}

/// How a row of statistics differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// There is none.
    Missing,
    /// Its values are others.
    Altered,
    /// There is one without a position, or a second one.
    Surplus,
    /// The rows of the table add up to something else than those of the other tables.
    Unequal,
}

/// The positions of a day and connection of which retention has begun to delete some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartlyDeleted {
    /// The day.
    pub day: Day,
    /// The connection.
    pub connection_id: String,
    /// How many of those that were counted are deleted.
    pub deleted: u64,
    /// How those that are there differ from those that should be left.
    pub rest: RestState,
}

/// How the positions that retention has left differ from those that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestState {
    /// Not at all.
    Equal,
    /// There are so many more, which are in no statistics.
    Late(u64),
    /// They are altered, or some are missing.
    Altered,
    /// Positions are gone, and `statistics_daily` does not say that retention deleted them.
    Unrecorded,
}

impl ComparedDay {
    /// The connections whose statistics cannot be calculated again, because positions that were counted are gone. They
    /// are not written.
    pub fn finals(&self) -> BTreeMap<&str, FinalReason<'_>> {
        let mut finals = BTreeMap::new();
        let mut by_connection: BTreeMap<&str, Vec<&StoredStatistics>> = BTreeMap::new();
        for row in &self.stored {
            if let Some(left) = &row.left {
                finals.entry(&*row.connection_id).or_insert(FinalReason::Begun(left));
            }
            if row.key.is_some() {
                by_connection.entry(&row.connection_id).or_default().push(row);
            }
        }
        for (connection_id, rows) in by_connection {
            if let Some(gone) = self.unrecorded(connection_id, &rows) {
                finals.entry(connection_id).or_insert(FinalReason::Unrecorded(gone));
            }
        }
        finals
    }

    /// How many positions of a connection are gone that retention may have deleted; `None` where it has not.
    fn unrecorded(&self, connection_id: &str, rows: &[&StoredStatistics]) -> Option<u64> {
        let present = self.present.get(connection_id).copied().unwrap_or_default();
        let tables = StatisticsTable::ALL.map(|table| -> Vec<&StatisticsValues> {
            rows.iter().filter(|row| row.table == table).map(|row| &row.values).collect()
        });
        let [_, _, daily] = &tables;
        let may_be_deleted = daily.is_empty() || Some(self.day) <= self.last_final_day;
        // What one altered row says does not count against the two other tables.
        let complete = tables.iter().filter(|rows| sum_of_sources(rows) == Some(present)).count();
        if !may_be_deleted || complete >= 2 {
            return None;
        }
        let counted = tables.iter().map(|rows| {
            let counted = rows.iter().filter_map(|values| source_of(values));
            counted.fold(0, |sum: u64, source| sum.saturating_add(source.rows))
        });
        counted.max()?.checked_sub(present.rows).filter(|gone| *gone > 0)
    }

    /// What retention has left of the positions.
    pub fn partly_deleted(&self) -> Vec<PartlyDeleted> {
        let state = |(connection_id, reason): (&str, FinalReason<'_>)| {
            let (deleted, rest) = match reason {
                FinalReason::Unrecorded(gone) => (gone, RestState::Unrecorded),
                FinalReason::Begun(left) => {
                    let present = self.present.get(connection_id).copied().unwrap_or_default();
                    rest_of(left, self.source_rows(connection_id).unwrap_or_default(), present)
                }
            };
            PartlyDeleted { day: self.day, connection_id: connection_id.to_string(), deleted, rest }
        };
        self.finals().into_iter().map(state).collect()
    }

    fn source_rows(&self, connection_id: &str) -> Option<u64> {
        let mut daily = self.stored.iter().filter(|row| is_daily(row));
        let row = daily.find(|row| row.connection_id == connection_id)?;
        u64::try_from(row.values.source_rows?).ok()
    }

    /// What differs. Statistics whose positions are gone are compared with one another only.
    pub fn differences(&self) -> Vec<StatisticsDifference> {
        let finals: BTreeSet<&str> = self.finals().into_keys().collect();
        // As long as all of them are there, they can be compared.
        let are_gone = |id: &&&str| {
            let daily = self.stored.iter().find(|row| is_daily(row) && row.connection_id == **id);
            let counted = daily.and_then(|row| source_of(&row.values));
            counted.is_none() || counted.as_ref() != self.present.get(**id)
        };
        let gone: BTreeSet<&str> = finals.iter().filter(are_gone).copied().collect();
        let found = self.rows_to_write(&gone);
        let difference = |key: StatisticsKey, kind| StatisticsDifference {
            is_final: finals.contains(&*key.connection_id),
            key,
            kind,
            columns: Vec::new(),
        };
        let missing = found.inserted.iter().map(|key| (*key).clone());
        let missing = missing.map(|key| difference(key, DifferenceKind::Missing));
        let altered = found.updated.iter().map(|(id, key)| StatisticsDifference {
            columns: self.differing_columns(*id, key),
            ..difference((*key).clone(), DifferenceKind::Altered)
        });
        let surplus =
            |row: &&StoredStatistics| difference(row.shown_key(), DifferenceKind::Surplus);
        let kept =
            found.kept.iter().map(|row| StatisticsDifference { is_final: true, ..surplus(row) });
        let surplus = found.deleted.iter().map(surplus);
        let of_final = gone.iter().flat_map(|connection_id| {
            let of_connection = |row: &&StoredStatistics| row.connection_id == **connection_id;
            let rows: Vec<_> = self.stored.iter().filter(of_connection).collect();
            let strange = rows.iter().filter(|row| row.key.is_none());
            let strange = strange.map(|row| StatisticsDifference {
                is_final: true,
                ..difference(row.shown_key(), DifferenceKind::Surplus)
            });
            let mut found: Vec<_> = strange.collect();
            let readable: Vec<_> = rows.into_iter().filter(|row| row.key.is_some()).collect();
            found.extend(inconsistencies(self.day, connection_id, &readable));
            found
        });
        missing.chain(altered).chain(surplus).chain(kept).chain(of_final).collect()
    }

    /// The columns in which a stored row differs from what is calculated.
    fn differing_columns(&self, id: i64, key: &StatisticsKey) -> Vec<&'static str> {
        let mut of_table = self.stored.iter().filter(|row| row.table == key.table);
        let stored = of_table.find(|row| row.id == id).map(|row| row.values.fields());
        let calculated = self.calculated.get(key).map(StatisticsValues::fields);
        let Some((stored, calculated)) = stored.zip(calculated) else { return Vec::new() };
        let pairs = stored.into_iter().zip(calculated);
        let columns = key.table.value_columns().zip(pairs);
        columns
            .filter(|(_, (stored, calculated))| stored != calculated)
            .map(|((name, _), _)| name)
            .collect()
    }

    /// What has to be written, connection by connection.
    pub fn changes(&self) -> Vec<StatisticsChange> {
        let finals: BTreeSet<&str> = self.finals().into_keys().collect();
        let found = self.rows_to_write(&finals);
        let mut by_connection: BTreeMap<&str, RowsToWrite<'_>> = BTreeMap::new();
        for key in found.inserted {
            by_connection.entry(&key.connection_id).or_default().inserted.push(key);
        }
        for (id, key) in found.updated {
            by_connection.entry(&key.connection_id).or_default().updated.push((id, key));
        }
        for row in found.deleted {
            by_connection.entry(&row.connection_id).or_default().deleted.push(row);
        }
        let changes = by_connection.into_iter();
        changes.flat_map(|(connection_id, rows)| self.split(connection_id, rows)).collect()
    }

    /// What is to be written, but for these connections.
    fn rows_to_write<'c>(&'c self, finals: &BTreeSet<&str>) -> RowsToWrite<'c> {
        let mut found = RowsToWrite::default();
        let mut seen: BTreeSet<&StatisticsKey> = BTreeSet::new();
        let stored = self.stored.iter().filter(|row| !finals.contains(&*row.connection_id));
        for row in stored {
            let key = row.key.as_ref();
            let calculated = key.and_then(|key| self.calculated.get_key_value(key));
            match calculated {
                Some((key, values)) if seen.insert(key) => {
                    if row.values != *values {
                        found.updated.push((row.id, key));
                    }
                }
                // What is of another period and not of cts is left alone.
                None if key.is_none() && row.values.source_digest.is_none() => {}
                // It may be of a day whose positions are gone.
                None if self.last_final_day.is_some() && row.day == UNREADABLE_DAY => {
                    found.kept.push(row);
                }
                _ => found.deleted.push(row),
            }
        }
        let is_new =
            |key: &&StatisticsKey| !seen.contains(key) && !finals.contains(&*key.connection_id);
        found.inserted = self.calculated.keys().filter(is_new).collect();
        found
    }

    /// The changes of a connection, each of so many rows as one transaction may write. The row of the day comes last.
    fn split(&self, connection_id: &str, rows: RowsToWrite<'_>) -> Vec<StatisticsChange> {
        let mut daily = self.stored.iter().filter(|row| is_daily(row));
        let daily = daily.find(|row| row.connection_id == connection_id);
        let expected = daily.map(|row| (row.values.source_rows, row.values.source_digest.clone()));
        let empty = || StatisticsChange {
            day: self.day,
            connection_id: connection_id.to_string(),
            expected: expected.clone(),
            inserted: Vec::new(),
            updated: Vec::new(),
            deleted: Vec::new(),
        };
        let row = |key: &StatisticsKey| StatisticsRow {
            key: key.clone(),
            values: self.calculated.get(key).cloned().unwrap_or_default(),
        };
        let mut changes = vec![empty()];
        for write in rows.in_order() {
            let is_full =
                changes.last().is_none_or(|change| change_rows(change) >= CHANGE_ROWS_MAX);
            if is_full {
                changes.push(empty());
            }
            let Some(change) = changes.last_mut() else { continue };
            match write {
                RowToWrite::Insert(key) => change.inserted.push(row(key)),
                RowToWrite::Update(id, key) => change.updated.push((id, row(key))),
                RowToWrite::Delete(stored) => change.deleted.push((stored.table, stored.id)),
            }
        }
        changes
    }
}

/// How many of so many positions retention has deleted, and how those that are there differ from those that it has left.
fn rest_of(left: &SourceLeft, counted: u64, present: TableDigest) -> (u64, RestState) {
    let Some(rows) = left.rows.and_then(|rows| u64::try_from(rows).ok()) else {
        return (counted.saturating_sub(present.rows), RestState::Altered);
    };
    let expected = left.digest.as_deref().and_then(|digest| TableDigest::from_text(rows, digest));
    let rest = match expected {
        Some(expected) if expected == present => RestState::Equal,
        Some(expected) if present.rows > expected.rows => {
            RestState::Late(present.rows - expected.rows)
        }
        _ => RestState::Altered,
    };
    (counted.saturating_sub(rows), rest)
}

/// Whether it is the row of a day.
fn is_daily(row: &StoredStatistics) -> bool {
    row.table == StatisticsTable::Daily && row.key.is_some()
}

fn change_rows(change: &StatisticsChange) -> usize {
    change.inserted.len() + change.updated.len() + change.deleted.len()
}

/// Rows that have to be written.
#[derive(Default)]
struct RowsToWrite<'c> {
    inserted: Vec<&'c StatisticsKey>,
    updated: Vec<(i64, &'c StatisticsKey)>,
    deleted: Vec<&'c StoredStatistics>,
    /// Rows that are neither right nor deleted.
    kept: Vec<&'c StoredStatistics>,
}

enum RowToWrite<'c> {
    Insert(&'c StatisticsKey),
    Update(i64, &'c StatisticsKey),
    Delete(&'c StoredStatistics),
}

impl<'c> RowsToWrite<'c> {
    /// Those of the day last: they say that the others are there.
    fn in_order(self) -> Vec<RowToWrite<'c>> {
        let deleted = self.deleted.into_iter().map(|row| (row.table, RowToWrite::Delete(row)));
        let updated =
            self.updated.into_iter().map(|(id, key)| (key.table, RowToWrite::Update(id, key)));
        let inserted = self.inserted.into_iter().map(|key| (key.table, RowToWrite::Insert(key)));
        let mut rows: Vec<_> = deleted.chain(updated).chain(inserted).collect();
        rows.sort_by_key(|(table, _)| *table == StatisticsTable::Daily);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

impl StoredStatistics {
    /// What the row is of, for a message.
    fn shown_key(&self) -> StatisticsKey {
        self.key.clone().unwrap_or_else(|| StatisticsKey {
            table: self.table,
            day: self.day,
            connection_id: self.connection_id.clone(),
            symbol: String::new(),
            kind: String::new(),
        })
    }
}

#[cfg(test)]
mod tests;
