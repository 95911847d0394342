//! Finds the first rows in which two sides of a table differ, once their digests have shown that some do. The rows are
//! counted in buckets by their key, on each side, and those of a bucket that differs are compared one by one: so the memory
//! does not grow with the table.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::problems::row_key;
use super::rows::{RowProgress, read_checked, read_selected};
use crate::error::Result;
use crate::store::{CopiedTable, Database, LongWork, ReadRows, WaitPolicy};
use crate::store::{RowHash, RowHasher, TableDigest};

/// The number of buckets, each of which is a digest.
const BUCKETS: usize = 4096;
/// How many rows are named.
const SHOWN_ROWS: usize = 5;
/// How many rows of a bucket are kept to compare them.
const KEPT_ROWS: usize = 50_000;

/// Compares the rows of a table on two sides.
pub struct RowComparison<'c> {
    /// The table.
    pub table: &'c CopiedTable,
    /// The target, whose rules decide which rows are compared.
    pub target: &'c dyn Database,
    /// Ends the work.
    pub wait: &'c WaitPolicy<'c>,
}

/// One side of the table.
enum Side<'s> {
    Source(&'s mut dyn ReadRows),
    Copy(&'s mut dyn ReadRows),
}

/// The rows of one bucket on one side, by their keys.
type BucketRows = BTreeMap<(String, RowHash), i64>;

impl RowComparison<'_> {
    /// The first rows that differ, as phrases: `id 7 differs`.
    ///
    /// # Errors
    /// Where a side cannot be read.
    pub fn first_differences(
        &self,
        source: &mut dyn ReadRows,
        copy: &mut dyn ReadRows,
    ) -> Result<Vec<String>> {
        let here = self.buckets(Side::Source(source))?;
        let there = self.buckets(Side::Copy(copy))?;
        let differs = here.iter().zip(&there).position(|(here, there)| here != there);
        let Some(bucket) = differs else { return Ok(Vec::new()) };
        let (mut ours, mut theirs) = (BucketRows::new(), BucketRows::new());
        self.collect(Side::Source(source), bucket, &mut ours)?;
        self.collect(Side::Copy(copy), bucket, &mut theirs)?;
        Ok(differences(&ours, &theirs))
    }

    fn buckets(&self, side: Side<'_>) -> Result<Vec<TableDigest>> {
        let mut buckets = vec![TableDigest::default(); BUCKETS];
        self.each(side, &mut |key, hash| {
            if let Some(bucket) = buckets.get_mut(bucket_of(&key)) {
                bucket.add(&hash);
            }
        })?;
        Ok(buckets)
    }

    fn collect(&self, side: Side<'_>, bucket: usize, rows: &mut BucketRows) -> Result<()> {
        self.each(side, &mut |key, hash| {
            if bucket_of(&key) == bucket && rows.len() < KEPT_ROWS {
                *rows.entry((key, hash)).or_default() += 1;
            }
        })
    }

    /// Calls `on_row` with the key and the hash of each row that is copied, or was.
    fn each(&self, side: Side<'_>, on_row: &mut dyn FnMut(String, RowHash)) -> Result<()> {
        let mut hasher = RowHasher::default();
        let mut progress = RowProgress::of(LongWork::ComparingRows, 0, self.wait);
        let (table, target) = (self.table, self.target);
        match side {
            Side::Source(source) => {
                read_checked(source, table, target, &mut progress, &mut |number, row, problems| {
                    if problems.is_empty() {
                        on_row(row_key(table, number, row), hasher.hash(row));
                    }
                    Ok(())
                })
            }
            Side::Copy(copy) => read_selected(copy, table, &mut progress, &mut |number, row| {
                on_row(row_key(table, number, row), hasher.hash(row));
                Ok(())
            }),
        }
    }
}

fn bucket_of(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % BUCKETS as u64) as usize
}

fn differences(ours: &BucketRows, theirs: &BucketRows) -> Vec<String> {
    let mut found: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    let all = ours.keys().chain(theirs.keys());
    for entry in all.filter(|entry| ours.get(entry) != theirs.get(entry)) {
        let sides = found.entry(&entry.0).or_default();
        sides.0 |= ours.get(entry) > theirs.get(entry);
        sides.1 |= theirs.get(entry) > ours.get(entry);
    }
    let phrase = |(key, sides): (&str, (bool, bool))| match sides {
        (true, false) => format!("{key} is not in the copy"),
        (false, true) => format!("{key} is only in the copy, or there more often"),
        _ => format!("{key} differs"),
    };
    found.into_iter().take(SHOWN_ROWS).map(phrase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Value;

    fn rows(rows: &[(&str, i64)]) -> BucketRows {
        let mut bucket = BucketRows::new();
        for (key, value) in rows {
            let hash = RowHasher::default().hash(&[Ok(Value::Integer(*value))]);
            *bucket.entry((key.to_string(), hash)).or_default() += 1;
        }
        bucket
    }

    #[test]
    fn the_rows_that_differ_are_named() {
        let ours = rows(&[("1", 1), ("2", 2), ("3", 3), ("5", 5)]);
        let theirs = rows(&[("1", 1), ("2", 9), ("4", 4), ("5", 5), ("5", 5)]);
        assert_eq!(
            differences(&ours, &theirs),
            [
                "2 differs",
                "3 is not in the copy",
                "4 is only in the copy, or there more often",
                "5 is only in the copy, or there more often",
            ]
        );
        assert!(differences(&ours, &ours).is_empty());
    }
}
