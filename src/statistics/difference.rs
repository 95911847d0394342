//! What differs between the statistics of a day as they are stored and as they are calculated, and what has to be written.

use std::collections::{BTreeMap, BTreeSet};

use super::day::CalculatedDay;
use crate::store::{
    Day, SourceLeft, StatisticsChange, StatisticsKey, StatisticsRow, StatisticsTable,
    StatisticsValues, StoredStatistics, TableDigest,
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
}

impl ComparedDay {
    /// The connections of which retention has begun to delete positions, with what it has left. Their statistics are
    /// final.
    pub fn frozen(&self) -> BTreeMap<&str, &SourceLeft> {
        let daily = self.stored.iter().filter(|row| is_daily(row));
        daily.filter_map(|row| Some((&*row.connection_id, row.left.as_ref()?))).collect()
    }

    /// What retention has left of the positions.
    pub fn partly_deleted(&self) -> Vec<PartlyDeleted> {
        let state = |(connection_id, left): (&str, &SourceLeft)| {
            let present = self.present.get(connection_id).copied().unwrap_or_default();
            let rows = u64::try_from(left.rows).unwrap_or_default();
            let digest = left.digest.as_deref();
            let expected = digest.and_then(|digest| TableDigest::from_text(rows, digest));
            let rest = match expected {
                Some(expected) if expected == present => RestState::Equal,
                Some(expected) if present.rows > expected.rows => {
                    RestState::Late(present.rows - expected.rows)
                }
                _ => RestState::Altered,
            };
            let counted = self.source_rows(connection_id).unwrap_or_default();
            PartlyDeleted {
                day: self.day,
                connection_id: connection_id.to_string(),
                deleted: counted.saturating_sub(rows),
                rest,
            }
        };
        self.frozen().into_iter().map(state).collect()
    }

    fn source_rows(&self, connection_id: &str) -> Option<u64> {
        let mut daily = self.stored.iter().filter(|row| is_daily(row));
        let row = daily.find(|row| row.connection_id == connection_id)?;
        u64::try_from(row.values.source_rows?).ok()
    }

    /// What differs, but for connections of which retention has deleted positions.
    pub fn differences(&self) -> Vec<StatisticsDifference> {
        let frozen: BTreeSet<&str> = self
            .frozen()
            .into_iter()
            // As long as all of them are there, they can be compared.
            .filter(|(id, _)| {
                self.present.get(*id).map(|digest| digest.rows) != self.source_rows(id)
            })
            .map(|(id, _)| id)
            .collect();
        let found = self.rows_to_write(&frozen);
        let difference =
            |key: StatisticsKey, kind| StatisticsDifference { key, kind, columns: Vec::new() };
        let missing = found.inserted.iter().map(|key| (*key).clone());
        let missing = missing.map(|key| difference(key, DifferenceKind::Missing));
        let altered = found.updated.iter().map(|(id, key)| StatisticsDifference {
            columns: self.differing_columns(*id, key),
            ..difference((*key).clone(), DifferenceKind::Altered)
        });
        let surplus = found.deleted.iter();
        let surplus = surplus.map(|row| difference(row.shown_key(), DifferenceKind::Surplus));
        missing.chain(altered).chain(surplus).collect()
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
        let frozen: BTreeSet<&str> = self.frozen().into_keys().collect();
        let found = self.rows_to_write(&frozen);
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

    fn rows_to_write<'c>(&'c self, frozen: &BTreeSet<&str>) -> RowsToWrite<'c> {
        let mut found = RowsToWrite::default();
        let mut seen: BTreeSet<&StatisticsKey> = BTreeSet::new();
        let stored = self.stored.iter().filter(|row| !frozen.contains(&*row.connection_id));
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
                _ => found.deleted.push(row),
            }
        }
        let is_new =
            |key: &&StatisticsKey| !seen.contains(key) && !frozen.contains(&*key.connection_id);
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
