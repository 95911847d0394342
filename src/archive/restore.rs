//! Builds the database of a moment from the segments of an archive.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::chain::{Segment, SegmentList};
use super::folder::{ArchiveFolder, cannot_read, cannot_write};
use crate::error::{Error, Kind, Result};
use crate::store::{BackupSource, ProofDepth, WaitPolicy, interrupted};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;

/// Bytes that are written between two syncs, so that a commit of a database on the same disk never waits for more of them.
const BYTES_BETWEEN_SYNCS: usize = 8 << 20;
/// The mode of a database that is built: it holds keys of exchanges.
const FILE_MODE: u32 = 0o600;

/// A moment of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveMoment {
    /// The newest.
    Latest,
    /// The state that was the newest one at this time, in milliseconds since 1970.
    At(i64),
}

/// A time that can be reached without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The first moment, in milliseconds since 1970.
    pub from: i64,
    /// The last one.
    pub to: i64,
    /// Why what was committed before the first is not known, if that is so.
    pub gap: Option<String>,
}

/// What is needed to build the database of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentPlan {
    segments: Vec<Segment>,
    /// When its last transaction was found, in milliseconds since 1970.
    pub at: i64,
    /// Size of the segments in bytes.
    pub bytes: u64,
}

/// The times that an archive reaches, the oldest first. A later one begins where what was committed before was not known.
pub fn reaches(chain: &SegmentList) -> Vec<Reach> {
    let mut reaches: Vec<Reach> = Vec::new();
    for segment in &chain.segments {
        match reaches.last_mut() {
            Some(reach) if segment.gap.is_none() => reach.to = segment.at,
            _ => {
                let gap = segment.gap.clone();
                reaches.push(Reach { from: segment.at, to: segment.at, gap });
            }
        }
    }
    reaches
}

impl MomentPlan {
    /// The plan of the moment behind these segments, the base first.
    pub fn of(segments: &[Segment]) -> MomentPlan {
        MomentPlan {
            at: segments.last().map_or(0, |last| last.at),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            segments: segments.to_vec(),
        }
    }
}

impl ArchiveFolder {
    /// Size of the database of a moment while it is built, in bytes.
    ///
    /// # Errors
    /// The file of the base is missing, damaged, or another one.
    pub fn size_of(&self, plan: &MomentPlan) -> Result<u64> {
        let Some(base) = plan.segments.first() else { return Ok(0) };
        let page_bytes = self.open(base)?.header.page_bytes;
        let pages = plan.segments.iter().map(|segment| segment.pages).max().unwrap_or_default();
        Ok(u64::from(pages) * u64::from(page_bytes))
    }

    /// Finds the segments of a moment.
    ///
    /// # Errors
    /// The archive does not reach it, or its list is damaged before it.
    pub fn plan(&self, moment: ArchiveMoment) -> Result<MomentPlan> {
        let listed = self.list()?;
        let at = match moment {
            ArchiveMoment::Latest => i64::MAX,
            ArchiveMoment::At(at) => at,
        };
        let is_behind = |last: &Segment| last.at < at;
        if let Some(fault) = listed.fault
            && listed.chain.segments.last().is_none_or(is_behind)
        {
            return Err(fault.remedy("restore an earlier moment (`cts backups` lists them)"));
        }
        let segments = listed.chain.until(at).ok_or_else(|| {
            let first = listed.chain.segments.first().map(|first| shown(first.at));
            let what = match first {
                Some(first) => format!("the archive begins at {first}"),
                None => "there is no archive".to_string(),
            };
            Error::new(Kind::Data, what).at(self.path().display())
        })?;
        let end = segments.last().map_or(0, |last| last.last);
        let next = listed.chain.segments.iter().find(|segment| segment.last > end);
        match (segments.last(), next.filter(|next| next.gap.is_some())) {
            // What was committed in between is in no archive.
            (Some(last), Some(next)) if last.at < at => {
                Err(in_gap(last, next).at(self.path().display()))
            }
            _ => Ok(MomentPlan::of(segments)),
        }
    }

    /// Builds the database in a new file. Each file is compared with what the list says of it.
    ///
    /// # Errors
    /// A file of the archive is missing, damaged, or another one; the database cannot be written; or `wait` was cancelled.
    pub fn build(&self, plan: &MomentPlan, to: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(FILE_MODE);
        let failed = |e: &io::Error| cannot_write(to, e);
        let database = options.open(to).map_err(|e| failed(&e))?;
        let mut unsynced = 0;
        for segment in &plan.segments {
            wait.check_cancelled().map_err(|_| interrupted())?;
            let mut file = self.open(segment)?;
            let page_bytes = u64::from(file.header.page_bytes);
            database.set_len(u64::from(segment.pages) * page_bytes).map_err(|e| failed(&e))?;
            let mut fault = None;
            let read = file.read_all(|page, image| {
                unsynced += image.len();
                let written = database.write_all_at(image, (u64::from(page) - 1) * page_bytes);
                let synced = match unsynced >= BYTES_BETWEEN_SYNCS {
                    true => {
                        unsynced = 0;
                        written.and_then(|()| database.sync_data())
                    }
                    false => written,
                };
                synced.inspect_err(|e| fault = Some(failed(e)))
            });
            read.map_err(|e| fault.unwrap_or_else(|| cannot_read(&self.file(segment.file()), &e)))?;
        }
        database.sync_all().map_err(|e| failed(&e))
    }
}

/// The database of a moment, as a source of a restore: it is proved once it is built.
pub struct ArchivedDatabase {
    /// The archive.
    pub folder: ArchiveFolder,
    /// The moment that was asked for.
    pub moment: ArchiveMoment,
    /// What is needed for it.
    pub plan: MomentPlan,
}

/// The error of a moment between two segments, between which it is not known what was committed.
fn in_gap(before: &Segment, after: &Segment) -> Error {
    let (before_at, after_at) = (shown(before.at), shown(after.at));
    let why = after.gap.as_deref().unwrap_or_default();
    let what =
        format!("what was committed between {before_at} and {after_at} is not archived: {why}");
    Error::new(Kind::Data, what)
        .remedy(format!("restore one of the two: --at {before_at}, or --at {after_at}"))
}

/// The error of a moment that was merged into a later one while it was built.
fn merged() -> Error {
    let what = "segments were merged meanwhile, so that another moment is the nearest now";
    Error::new(Kind::TryAgain, what).remedy("run it again")
}

impl ArchivedDatabase {
    /// The archive, the moment, and how much is read.
    pub fn shown(&self) -> String {
        let MomentPlan { at, bytes, .. } = &self.plan;
        let folder = self.folder.path().display();
        format!("{folder} as of {} ({})", shown(*at), Bytes(*bytes))
    }
}

impl BackupSource for ArchivedDatabase {
    fn plain_file(&self) -> Option<&Path> {
        None
    }

    /// Each page is compared with the checksum that it was archived with. A drill a day looks at the indexes too.
    fn proof(&self) -> ProofDepth {
        ProofDepth::Pages
    }

    fn unpack(&self, to: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
        let mut plan = self.plan.clone();
        loop {
            let built = self.folder.build(&plan, to, wait);
            let Err(error) = built.inspect_err(|_| drop(fs::remove_file(to))) else {
                return Ok(());
            };
            // A running service has merged or deleted some of the files meanwhile.
            let now = self.folder.plan(self.moment).ok().filter(|now| *now != plan);
            plan = match now.filter(|_| error.kind == Kind::Data) {
                Some(now) if now.at == plan.at => now,
                Some(_) => return Err(merged().at(self.folder.path().display())),
                None => return Err(error),
            };
        }
    }
}

/// A moment as text, in UTC.
pub fn shown(at: i64) -> String {
    let since = Duration::from_millis(u64::try_from(at).unwrap_or_default());
    UtcTime::of(SystemTime::UNIX_EPOCH + since).rfc3339()
}
