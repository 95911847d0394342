//! What becomes of segments as they age: those of a time are merged into one, with one image of a page, a new base is made of the
//! last one and what came behind it, and what nobody can be promised any more is deleted.

use std::time::Duration;

use super::chain::{Segment, SegmentKind, SegmentList};
use super::folder::{ArchiveFolder, cannot_read, cannot_write, is_base};
use super::ltx::LtxReader;
use crate::error::{Error, Kind, Result};

/// A level of compaction: which segments are merged into one of it.
struct Level {
    level: u8,
    /// The age from which on segments are merged.
    age: Duration,
    /// The time whose segments become one.
    window: Duration,
}

/// The levels, the coarsest first.
const LEVELS: [Level; 3] = [
    Level { level: 3, age: Duration::from_secs(24 * 3600), window: Duration::from_secs(3600) },
    Level { level: 2, age: Duration::from_secs(3600), window: Duration::from_secs(60) },
    Level { level: 1, age: Duration::from_secs(300), window: Duration::from_secs(10) },
];
/// How many files become one at most: all of them are open at a time.
const MERGED_MAX: usize = 250;
/// The time after which a new base is made.
const BASE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A part of the list that another one takes the place of.
#[derive(Debug, PartialEq, Eq)]
pub enum SegmentCompaction {
    /// The segments from one place in the list up to another become one of this level.
    Merge(std::ops::Range<usize>, u8),
    /// The base at a place in the list and what is behind it, up to another place, become a base there.
    Base(std::ops::Range<usize>),
    /// So many segments at the beginning of the list are deleted.
    Expire(usize),
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What is due next; `None` if nothing is. `now` is in milliseconds since 1970.
pub fn plan(segments: &[Segment], now: i64, keep: Duration) -> Option<SegmentCompaction> {
    let kept_from = now.saturating_sub(milliseconds(keep));
    let base = |until: i64| segments.iter().rposition(|s| is_base(s) && s.at <= until);
    if let Some(first) = base(kept_from).filter(|first| *first > 0) {
        return Some(SegmentCompaction::Expire(first));
    }
    if let Some(last_base) = base(i64::MAX) {
        let due = segments[last_base].at.saturating_add(milliseconds(BASE_INTERVAL));
        let end = segments.len();
        if now >= due && end > last_base + 1 {
            return Some(SegmentCompaction::Base(last_base..end));
        }
    }
    LEVELS.iter().find_map(|level| merge(segments, now, level))
}

/// The first segments of one window that are old enough, and more than one.
fn merge(segments: &[Segment], now: i64, level: &Level) -> Option<SegmentCompaction> {
    let window = milliseconds(level.window).max(1);
    // All of the window has to be old enough.
    let limit = now.saturating_sub(milliseconds(level.age)).div_euclid(window) * window;
    let is_due = |s: &Segment| !is_base(s) && s.level < level.level && s.at < limit;
    let mut from = 0;
    while from < segments.len() {
        let first = &segments[from];
        let is_same =
            |s: &&Segment| is_due(s) && s.at.div_euclid(window) == first.at.div_euclid(window);
        let count = segments[from..].iter().take_while(is_same).take(MERGED_MAX).count();
        if count > 1 {
            return Some(SegmentCompaction::Merge(from..from + count, level.level));
        }
        from += count.max(1);
    }
    None
}

impl SegmentCompaction {
    /// Writes the file that is needed. Returns the segment, if there is a new one.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged; or the new one cannot be written. Nothing is changed then.
    pub fn write(&self, folder: &ArchiveFolder, segments: &[Segment]) -> Result<Option<Segment>> {
        let (range, level, kind) = match self {
            SegmentCompaction::Merge(range, level) => (range, *level, SegmentKind::Changes),
            SegmentCompaction::Base(range) => (range, 0, SegmentKind::Base),
            SegmentCompaction::Expire(_) => return Ok(None),
        };
        let merged = segments.get(range.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (merged.first(), merged.last()) else { return Ok(None) };
        let new = Segment {
            kind,
            level,
            first: if kind == SegmentKind::Base { last.last } else { first.first },
            database: first.database.clone(),
            gap: None,
            commits: merged.iter().map(|segment| segment.commits).sum(),
            ..last.clone()
        };
        merge_files(folder, merged, new).map(Some)
    }

    /// The first segment that it needs whose file is damaged: its place in the list, and the fault.
    pub fn damage(&self, folder: &ArchiveFolder, segments: &[Segment]) -> Option<(usize, Error)> {
        let (SegmentCompaction::Merge(range, _) | SegmentCompaction::Base(range)) = self else {
            return None;
        };
        range.clone().find_map(|place| {
            let error = prove(folder, segments.get(place)?).err()?;
            (error.kind == Kind::Data).then_some((place, error))
        })
    }

    /// The list after it, and the segments whose files are not needed any more.
    ///
    /// # Errors
    /// The list has changed meanwhile.
    pub fn apply(
        &self,
        chain: &SegmentList,
        planned: &[Segment],
        new: Option<Segment>,
    ) -> Result<(SegmentList, Vec<Segment>)> {
        // Segments are added behind it meanwhile.
        if !chain.segments.starts_with(planned) {
            return Err(Error::new(Kind::TryAgain, "the list of the archive has changed"));
        }
        let (before, gone, after) = match self {
            SegmentCompaction::Merge(range, _) => (0..range.start, range.clone(), range.end),
            SegmentCompaction::Base(range) => (0..range.end, 0..0, range.end),
            SegmentCompaction::Expire(count) => (0..0, 0..*count, *count),
        };
        let part = |range: std::ops::Range<usize>| chain.segments.get(range).unwrap_or_default();
        let kept = part(before)
            .iter()
            .cloned()
            .chain(new)
            .chain(part(after..chain.segments.len()).iter().cloned());
        Ok((SegmentList::of(kept)?, part(gone).to_vec()))
    }
}

/// Opens the file of a segment, all of which is as it was written.
fn prove(folder: &ArchiveFolder, segment: &Segment) -> Result<LtxReader> {
    let mut reader = folder.open(segment)?;
    let proved = reader.read_all(|_, _| Ok(()));
    proved.map_err(|e| cannot_read(&folder.file(segment.file()), &e))?;
    Ok(reader)
}

/// Writes the last image of each page.
fn merge_files(folder: &ArchiveFolder, merged: &[Segment], mut new: Segment) -> Result<Segment> {
    let mut readers: Vec<LtxReader> = Vec::new();
    // Each page, and the last file that has it.
    let mut pages: Vec<(u32, u32)> = Vec::new();
    for (place, segment) in (0..).zip(merged) {
        let reader = prove(folder, segment)?;
        pages.extend(reader.pages().map(|page| (page, place)));
        pages.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        pages.dedup_by_key(|(page, _)| *page);
        // What was cut off comes again only where it is written again.
        pages.retain(|(page, _)| *page <= segment.pages);
        readers.push(reader);
    }
    let page_bytes = readers.first().map_or(0, |reader| reader.header.page_bytes);
    let path = folder.file(new.file());
    folder.write(&mut new, page_bytes, |writer| {
        let mut image = vec![0; page_bytes as usize];
        for (page, place) in &pages {
            let Some(reader) = readers.get_mut(*place as usize) else { continue };
            reader.read_page(*page, &mut image).map_err(|e| cannot_read(&path, &e))?;
            writer.page(*page, &image).map_err(|e| cannot_write(&path, &e))?;
        }
        Ok(())
    })?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

    fn segment(kind: SegmentKind, number: u64, at: i64) -> Segment {
        Segment {
            kind,
            level: 0,
            first: number,
            last: number,
            commits: 1,
            pages: 9,
            at,
            checksum: 0,
            bytes: 100,
            position: None,
            database: None,
            gap: None,
        }
    }

    /// A base, then a segment each second for so long.
    fn seconds(count: u64) -> Vec<Segment> {
        let changes = (1..=count).map(|n| segment(SegmentKind::Changes, n + 1, n as i64 * 1000));
        [segment(SegmentKind::Base, 1, 0)].into_iter().chain(changes).collect()
    }

    /// The list after all that is due.
    fn compacted(segments: Vec<Segment>, now: i64) -> Vec<Segment> {
        let mut chain = SegmentList::of(segments).unwrap();
        while let Some(due) = plan(&chain.segments, now, KEEP) {
            let merged = match &due {
                SegmentCompaction::Merge(range, level) => {
                    let (first, last) =
                        (&chain.segments[range.start], &chain.segments[range.end - 1]);
                    Some(Segment { level: *level, first: first.first, ..last.clone() })
                }
                SegmentCompaction::Base(range) => {
                    let last = &chain.segments[range.end - 1];
                    Some(Segment { kind: SegmentKind::Base, first: last.last, ..last.clone() })
                }
                SegmentCompaction::Expire(_) => None,
            };
            chain = due.apply(&chain, &chain.segments, merged).unwrap().0;
        }
        chain.segments
    }

    #[test]
    fn a_segment_stands_for_ten_seconds_a_minute_and_an_hour_as_it_ages() {
        let all = seconds(600);
        assert_eq!(compacted(all.clone(), 600_000).len(), 1 + 30 + 301);
        let after_hours = compacted(all.clone(), 600_000 + HOUR + 60_000);
        assert_eq!(after_hours.iter().filter(|s| s.level == 2).count(), 10);
        assert_eq!(
            after_hours.iter().filter(|s| s.level == 0).count(),
            2,
            "base and the last second"
        );
        let after_a_day = compacted(all, 26 * HOUR);
        let shape: Vec<_> =
            after_a_day.iter().map(|s| (s.kind, s.level, s.first, s.last)).collect();
        assert_eq!(shape[0], (SegmentKind::Base, 0, 1, 1));
        // No more at a time than may be open.
        let hours: Vec<_> = after_a_day.iter().filter(|s| s.level == 3).map(|s| s.last).collect();
        assert_eq!(hours, [251, 501, 601]);
        assert_eq!(shape.last(), Some(&(SegmentKind::Base, 0, 601, 601)));
    }

    #[test]
    fn what_no_kept_moment_needs_is_deleted() {
        let mut segments = seconds(3);
        segments.push(segment(SegmentKind::Base, 4, 3000));
        segments.push(segment(SegmentKind::Changes, 5, 4000));
        let keep = milliseconds(KEEP);
        assert!(!matches!(plan(&segments, keep + 2999, KEEP), Some(SegmentCompaction::Expire(_))));
        assert_eq!(plan(&segments, keep + 3000, KEEP), Some(SegmentCompaction::Expire(4)));
        assert_eq!(compacted(segments, keep + 3000)[0].kind, SegmentKind::Base);
    }
}
