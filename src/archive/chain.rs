//! The list of the segments of an archive, `chain.jsonl`: a line for each, in the order of the transactions. Each line carries
//! the checksum of its file and a SHA-256 over the line before it, so that a file that is missing, damaged or another
//! one's is found, which LTX itself does not tell.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ltx::LtxHeader;
use crate::error::{Error, Kind, Result};
use crate::store::archive::WalPosition;

/// The name of the file.
pub const CHAIN: &str = "chain.jsonl";
/// The level of a file with all pages.
const BASE_LEVEL: u8 = 9;
/// Digits of the digest that links two lines.
const LINK_DIGITS: usize = 64;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// All pages of the database.
    Base,
    /// The pages that changed since the segment before it.
    Changes,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// What it is.
    pub kind: SegmentKind,
    /// The level of compaction: 0 as it was captured.
    pub level: u8,
    /// The number of the first capture in it, from 1 on. Litestream calls it TXID.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// Transactions.
    pub commits: u64,
    /// Size of the database after the last one, in pages.
    pub pages: u32,
    /// The moment at which the last of its transactions was the newest one, in milliseconds since 1970.
    pub at: i64,
    /// The checksum at the end of its file.
    pub checksum: u64,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// Where the capture ended in the WAL, to go on from there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<WalPosition>,
    /// Of a base: the id of the database.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<String>,
    /// Of a base: why the changes before it are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gap: Option<String>,
}

impl Segment {
    /// The path of its file, in the folder of the archive. Litestream has bases at level 9, from transaction 1 on.
    pub fn file(&self) -> PathBuf {
        let (level, first) = match self.kind {
            SegmentKind::Base => (BASE_LEVEL, 1),
            SegmentKind::Changes => (self.level, self.first),
        };
        PathBuf::from(format!("ltx/{level}/{first:016x}-{:016x}.ltx", self.last))
    }

    /// What the header of its file says.
    pub fn header(&self, page_bytes: u32) -> LtxHeader {
        let first = if self.kind == SegmentKind::Base { 1 } else { self.first };
        LtxHeader { page_bytes, pages: self.pages, first, last: self.last, found_at: self.at }
    }
}

/// A line of the list.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    segment: Segment,
    link: String,
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentList {
    /// The segments, in order. After a base, captures have higher numbers than all before.
    pub segments: Vec<Segment>,
    link: String,
}

impl SegmentList {
    /// Reads it. A last line that was cut off, as by a power failure, is left out. What stands behind a line that was changed, or
    /// from which one is missing, is not proved: the error names that line.
    pub fn parse(text: &str) -> (SegmentList, Option<Error>) {
        let mut chain = SegmentList::default();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(whole) = line.strip_suffix('\n') else { break };
            let found = serde_json::from_str::<Line>(whole).ok();
            if !found.is_some_and(|found| chain.add_line(found, line)) {
                let what = format!("line {} is damaged, or one before it is missing", number + 1);
                return (chain, Some(Error::new(Kind::Data, what)));
            }
        }
        (chain, None)
    }

    /// Adds a line as it was read. Returns whether it is the next one.
    fn add_line(&mut self, found: Line, line: &str) -> bool {
        let before = self.link.clone();
        let count = self.segments.len();
        let is_next = self.add(found.segment).is_ok_and(|expected| expected == line);
        if !is_next {
            self.segments.truncate(count);
            self.link = before;
        }
        is_next
    }

    /// The text of the list.
    pub fn text(&self) -> String {
        let mut chain = SegmentList::default();
        // Each followed the one before it when it was added.
        self.segments.iter().filter_map(|segment| chain.add(segment.clone()).ok()).collect()
    }

    /// The list without the segments that fail the test, with new links.
    ///
    /// # Errors
    /// One that is left does not follow.
    pub fn of(segments: impl IntoIterator<Item = Segment>) -> Result<SegmentList> {
        let mut chain = SegmentList::default();
        for segment in segments {
            chain.add(segment)?;
        }
        Ok(chain)
    }

    /// Adds a segment. Returns its line.
    ///
    /// # Errors
    /// It does not follow the last one.
    pub fn add(&mut self, segment: Segment) -> Result<String> {
        let next = self.segments.last().map_or(1, |last| last.last + 1);
        let follows = match segment.kind {
            // One that was made of what is before it has the number of the last of that.
            SegmentKind::Base => segment.first + 1 >= next && segment.first == segment.last,
            SegmentKind::Changes => segment.first == next && !self.segments.is_empty(),
        };
        if !follows || segment.last < segment.first {
            let what = format!(
                "segment {} to {} does not follow {}",
                segment.first,
                segment.last,
                next - 1
            );
            return Err(Error::new(Kind::Data, what));
        }
        let text = serde_json::to_string(&segment).unwrap_or_default();
        let digest = Sha256::digest(format!("{}\n{text}", self.link));
        self.link = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        debug_assert_eq!(self.link.len(), LINK_DIGITS);
        let line = Line { segment: segment.clone(), link: self.link.clone() };
        self.segments.push(segment);
        Ok(serde_json::to_string(&line).unwrap_or_default() + "\n")
    }

    /// The segments from which the database of a moment is built, the base first: that of the last capture that was the
    /// newest one by then. `None` where no base is so old.
    pub fn until(&self, at: i64) -> Option<&[Segment]> {
        let end = self.segments.partition_point(|segment| segment.at <= at);
        let until = self.segments.get(..end)?;
        let base = until.iter().rposition(|segment| segment.kind == SegmentKind::Base)?;
        until.get(base..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(kind: SegmentKind, first: u64, at: i64) -> Segment {
        Segment {
            kind,
            level: 0,
            first,
            last: first,
            commits: 3,
            pages: 9,
            at,
            checksum: u64::MAX - 1,
            bytes: 77,
            position: None,
            database: None,
            gap: None,
        }
    }

    fn text() -> String {
        let mut chain = SegmentList::default();
        let segments = [
            segment(SegmentKind::Base, 1, 100),
            segment(SegmentKind::Changes, 2, 200),
            segment(SegmentKind::Changes, 3, 300),
            segment(SegmentKind::Base, 9, 400),
        ];
        segments.into_iter().map(|segment| chain.add(segment).unwrap()).collect()
    }

    #[test]
    fn the_segments_of_a_moment_begin_with_the_last_base_before_it() {
        let (chain, None) = SegmentList::parse(&text()) else { panic!("it is damaged") };
        assert_eq!(chain.text(), text());
        let of =
            |at| chain.until(at).map(|found| found.iter().map(|s| s.first).collect::<Vec<_>>());
        assert_eq!(of(99), None);
        assert_eq!(of(100), Some(vec![1]));
        assert_eq!(of(299), Some(vec![1, 2]));
        assert_eq!(of(399), Some(vec![1, 2, 3]));
        assert_eq!(of(i64::MAX), Some(vec![9]));
    }

    #[test]
    fn a_changed_missing_or_moved_line_is_found_and_one_that_was_cut_off_is_left_out() {
        let text = text();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let (chain, error) = SegmentList::parse(&changed);
            let is_cut = at + 1 == text.len();
            assert!(error.is_some() || is_cut, "byte {at}");
            assert_eq!(chain.segments.len(), text[..at].matches('\n').count(), "byte {at}");
        }
        assert!(SegmentList::parse(&(lines[0].to_owned() + lines[2] + lines[3])).1.is_some());
        assert!(SegmentList::parse(&(lines[0].to_owned() + lines[2] + lines[1])).1.is_some());
        let (cut, None) = SegmentList::parse(&text[..text.len() - 5]) else {
            panic!("it is damaged")
        };
        assert_eq!(cut.segments.len(), 3);
        let mut chain = cut;
        assert!(chain.add(segment(SegmentKind::Changes, 5, 500)).is_err());
        assert_eq!(chain.add(segment(SegmentKind::Base, 9, 400)).unwrap(), lines[3]);
    }
}
