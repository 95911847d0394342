//! Reads the positions and the statistics of some days, day by day.

use std::collections::BTreeMap;

use super::day::DayPositions;
use super::difference::ComparedDay;
use super::scope::StatisticsScope;
use crate::error::Result;
use crate::store::{
    ClosedPosition, Day, DayRange, Omission, ReadStatistics, RowHash, RowHasher, StoredStatistics,
    TableDigest,
};

/// Positions that are read at once, so that a read transaction is short; more where one day has more.
const SPAN_ROWS: u64 = 50_000;
/// Days that are read at once, so that not too many statistics are in memory.
const SPAN_DAYS: i32 = 31;

/// 9999-12-31: a later day has no text, so that no condition of SQLite compares with it.
const LAST_DAY: Day = Day(2_932_896);

/// The first days from `from` on of which there are positions or statistics, as many as are read at once.
///
/// # Errors
/// Where they cannot be read.
pub fn next_span(reader: &mut dyn ReadStatistics, from: Option<Day>) -> Result<Option<DayRange>> {
    if from.is_some_and(|from| from > LAST_DAY) {
        return Ok(None);
    }
    let Some(first) = reader.first_day(from)? else { return Ok(None) };
    let end = reader.day_after(Some(first), SPAN_ROWS)?.unwrap_or(Day(i32::MAX));
    let until = end.min(Day(first.0.saturating_add(SPAN_DAYS - 1))).max(first);
    // What is before all days comes with the first ones.
    Ok(Some(DayRange { from: from.map(|_| first), until: Some(until) }))
}

/// Calls `on_position` with each position that counts, and `on_day` with each day of a range of which there are positions
/// or statistics.
///
/// # Errors
/// Where they cannot be read, or with the error of `on_day`.
pub fn compare_days(
    reader: &mut dyn ReadStatistics,
    range: DayRange,
    scope: &StatisticsScope,
    omitted: &mut BTreeMap<Omission, u64>,
    on_position: &mut dyn FnMut(&ClosedPosition<'_>, RowHash),
    on_day: &mut dyn FnMut(ComparedDay) -> Result<()>,
) -> Result<()> {
    // First the statistics: what is written by another cts after they were read is found when they are written.
    let mut stored: BTreeMap<Day, Vec<StoredStatistics>> = BTreeMap::new();
    reader.read_statistics(range, &mut |row| {
        stored.entry(row.day).or_default().push(row);
        Ok(())
    })?;
    let mut days = OpenDays { scope, stored, positions: BTreeMap::new(), on_day };
    let mut hasher = RowHasher::default();
    reader.read_positions(range, &mut |row| {
        match &row.position {
            Ok(position) if !scope.connections.contains(&*position.connection_id) => {
                *omitted.entry(Omission::NoConnection).or_default() += 1;
            }
            Ok(position) => {
                let hash = position.hash(&mut hasher);
                days.positions.entry(position.day).or_default().add(position, &hash);
                on_position(position, hash);
            }
            // These are counted as a whole, since they are of no day.
            Err(Omission::NoClosingTime) => {}
            Err(reason) => *omitted.entry(*reason).or_default() += 1,
        }
        days.close_before(row.horizon)
    })?;
    days.close_all()
}

/// Days whose positions are being read.
struct OpenDays<'o> {
    scope: &'o StatisticsScope,
    stored: BTreeMap<Day, Vec<StoredStatistics>>,
    positions: BTreeMap<Day, DayPositions>,
    on_day: &'o mut dyn FnMut(ComparedDay) -> Result<()>,
}

impl OpenDays<'_> {
    fn close_before(&mut self, horizon: Option<Day>) -> Result<()> {
        while let Some(first) = self.positions.first_entry()
            && horizon.is_some_and(|horizon| *first.key() < horizon)
        {
            let (day, positions) = first.remove_entry();
            self.close(day, positions)?;
        }
        Ok(())
    }

    fn close(&mut self, day: Day, positions: DayPositions) -> Result<()> {
        if self.scope.oldest.is_some_and(|oldest| day < oldest) {
            return Ok(());
        }
        let stored = self.stored.remove(&day).unwrap_or_default();
        let present: BTreeMap<String, TableDigest> =
            positions.digests().into_iter().map(|(id, digest)| (id.to_string(), digest)).collect();
        let calculated = positions.calculate(day);
        let last_final_day = self.scope.last_final_day;
        (self.on_day)(ComparedDay { day, calculated, present, stored, last_final_day })
    }

    /// The days that are left, and those that have statistics only.
    fn close_all(mut self) -> Result<()> {
        while let Some((day, positions)) = self.positions.pop_first() {
            self.close(day, positions)?;
        }
        while let Some(day) = self.stored.keys().next().copied() {
            self.close(day, DayPositions::default())?;
            self.stored.remove(&day);
        }
        Ok(())
    }
}
