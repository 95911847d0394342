//! The proof of the statistics: each day that still has its positions is calculated again and compared with what is
//! stored.

use std::collections::{BTreeMap, BTreeSet};

use super::difference::{ComparedDay, PartlyDeleted, RestState, StatisticsDifference};
use super::scope::scope;
use super::span::{compare_days, next_span};
use crate::error::Result;
use crate::store::{
    ChangesSince, ClosedPosition, CountedRow, Day, DayRange, Moment, Omission, ReadStatistics,
    StatisticsTable, days_of,
};

/// Differences that are kept; more are counted.
const DIFFERENCES_MAX: usize = 1000;
/// How long after a position was closed its statistics may be behind, in microseconds.
const BEHIND_MICROSECONDS: i64 = 120_000_000;

/// What the proof found.
#[derive(Default)]
pub struct StatisticsProof {
    /// Days of which there are positions or statistics.
    pub days: u64,
    /// Positions that count.
    pub positions: u64,
    /// Rows of statistics.
    pub rows: u64,
    /// The first rows that are not as they are calculated.
    pub differences: Vec<StatisticsDifference>,
    /// The number of all of them, by day.
    by_day: BTreeMap<Day, u64>,
    /// The number of those of statistics that are final, which no service puts right.
    final_differences: u64,
    /// Days that differ, and on which a position was closed just now: their statistics are being calculated.
    pub behind: BTreeSet<Day>,
    /// Positions that do not count, by reason.
    pub omitted: BTreeMap<Omission, u64>,
    /// Days of which retention has deleted positions.
    pub partly_deleted: Vec<PartlyDeleted>,
    /// What is wrong with the setting `statistics_days`.
    pub setting_fault: Option<String>,
}

impl StatisticsProof {
    /// Whether nothing differs.
    pub fn is_proved(&self) -> bool {
        self.difference_count() == 0
    }

    /// The number of all differences: rows of statistics, and days and connections whose positions are not those that
    /// were counted.
    pub fn difference_count(&self) -> u64 {
        self.row_differences() + self.final_differences + self.altered_rests()
    }

    /// The number of those that no service puts right.
    pub fn final_count(&self) -> u64 {
        self.final_differences + self.altered_rests()
    }

    /// The number of rows that differ and are not shown.
    pub fn differences_not_shown(&self) -> u64 {
        let all = self.row_differences() + self.final_differences;
        all.saturating_sub(self.differences.len() as u64)
    }

    fn row_differences(&self) -> u64 {
        self.by_day.values().sum()
    }

    /// Days of which retention has deleted positions, and the rest of which is not as it was counted.
    fn altered_rests(&self) -> u64 {
        let is_altered =
            |part: &&PartlyDeleted| matches!(part.rest, RestState::Altered | RestState::Unrecorded);
        self.partly_deleted.iter().filter(is_altered).count() as u64
    }

    fn add(&mut self, day: &ComparedDay) {
        self.days += 1;
        self.positions += day.present.values().map(|digest| digest.rows).sum::<u64>();
        self.rows += day.stored.len() as u64;
        self.partly_deleted.extend(day.partly_deleted());
        let differences = day.differences();
        let finals = differences.iter().filter(|difference| difference.is_final).count() as u64;
        self.final_differences += finals;
        let others = differences.len() as u64 - finals;
        if others > 0 {
            *self.by_day.entry(day.day).or_default() += others;
        }
        let room = DIFFERENCES_MAX - self.differences.len().min(DIFFERENCES_MAX);
        self.differences.extend(differences.into_iter().take(room));
    }
}

/// Proves all statistics.
///
/// # Errors
/// Where they cannot be read.
pub fn prove(reader: &mut dyn ReadStatistics) -> Result<StatisticsProof> {
    let mut proof = StatisticsProof::default();
    let scope = scope(reader)?;
    proof.setting_fault.clone_from(&scope.setting_fault);
    let mut from = None;
    while let Some(range) = next_span(reader, from)? {
        let mut omitted = BTreeMap::new();
        compare_days(reader, range, &scope, &mut omitted, &mut |_, _| {}, &mut |day| {
            proof.add(&day);
            Ok(())
        })?;
        for (reason, count) in omitted {
            *proof.omitted.entry(reason).or_default() += count;
        }
        from = range.until.map(|until| Day(until.0.saturating_add(1)));
    }
    let unreadable = reader.count_unreadable_times()?;
    if unreadable > 0 {
        proof.omitted.insert(Omission::NoClosingTime, unreadable);
    }
    if proof.row_differences() > 0 {
        set_aside_what_is_behind(reader, &mut proof)?;
    }
    Ok(proof)
}

/// Takes away the differences of days on which a position was closed just now.
fn set_aside_what_is_behind(
    reader: &mut dyn ReadStatistics,
    proof: &mut StatisticsProof,
) -> Result<()> {
    let now = reader.now()?;
    let moment = Moment(now.0.saturating_sub(BEHIND_MICROSECONDS));
    let mut behind = reader.changed_days(ChangesSince { above_id: i64::MAX, moment })?.days;
    // What is to be closed in the future was not closed just now.
    behind.retain(|day| days_of(now).is_some_and(|today| *day <= today));
    proof.behind = behind.into_iter().filter(|day| proof.by_day.remove(day).is_some()).collect();
    let (behind, differences) = (&proof.behind, &mut proof.differences);
    differences.retain(|found| found.is_final || !behind.contains(&found.key.day));
    Ok(())
}

/// The positions of a day and connection, and whether their statistics are proved.
pub struct ProvedConnection {
    /// The connection.
    pub connection_id: String,
    /// The positions, all of which were counted if it is proved.
    pub rows: Vec<CountedRow>,
    /// Whether the statistics of the day are there and as they are calculated; of a day of which positions were deleted
    /// already, whether the rest is as it was counted.
    pub is_proved: bool,
}

/// The positions of a day by connection, with the proof of their statistics. Takes 40 bytes of memory for each.
///
/// # Errors
/// Where they cannot be read.
pub fn prove_day(reader: &mut dyn ReadStatistics, day: Day) -> Result<Vec<ProvedConnection>> {
    let scope = scope(reader)?;
    let mut unproved: BTreeSet<String> = BTreeSet::new();
    let mut proved: BTreeSet<String> = BTreeSet::new();
    let mut rows: BTreeMap<String, Vec<CountedRow>> = BTreeMap::new();
    let mut on_position = |position: &ClosedPosition<'_>, hash| {
        let counted = CountedRow { id: position.id, hash };
        rows.entry(position.connection_id.to_string()).or_default().push(counted);
    };
    let omitted = &mut BTreeMap::new();
    compare_days(reader, DayRange::of(day), &scope, omitted, &mut on_position, &mut |compared| {
        let daily = compared.stored.iter().filter(|row| row.table == StatisticsTable::Daily);
        proved.extend(daily.map(|row| row.connection_id.clone()));
        let differences = compared.differences().into_iter();
        unproved.extend(differences.map(|difference| difference.key.connection_id));
        let parts = compared.partly_deleted().into_iter();
        let altered = parts.filter(|part| part.rest != RestState::Equal);
        unproved.extend(altered.map(|part| part.connection_id));
        Ok(())
    })?;
    let connections = rows.into_iter().map(|(connection_id, rows)| ProvedConnection {
        is_proved: proved.contains(&connection_id) && !unproved.contains(&connection_id),
        connection_id,
        rows,
    });
    Ok(connections.collect())
}
