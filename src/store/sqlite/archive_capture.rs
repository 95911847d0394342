//! Gives every committed change to the archive, on a thread of its own. The capture holds the WAL: the upkeep has it begun anew by a
//! barrier, while it has the capture.
//!
//! The database comes first. Where the archive takes too long, or the WAL becomes too long, the capture lets go of the WAL: what was
//! committed then is not known, and the next capture begins with a full copy.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::file::side_file;
use super::kept_open::keep_open;
use super::moment::SqliteMoment;
use super::wal_capture::{CaptureGap, Captured, WalCapture};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::archive::{ArchiveSink, RawDatabase, Saving};

/// The pause between two captures while programs write: what the newest segment may lack.
const RENEW_INTERVAL: Duration = Duration::from_millis(250);
/// How long a segment may take to be saved.
const SAVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Length of the WAL at which it is let go of, in bytes.
const GIVE_UP_BYTES: u64 = 512 << 20;
/// For how long a WAL of that length may not be begun anew because of the archive, although it saves.
const BLOCK_MAX: Duration = Duration::from_secs(10);
/// The pause before the next try after the archive could not be written; it doubles up to the longest.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// The pause between two looks whether a segment is saved.
const SAVE_PAUSE: Duration = Duration::from_millis(10);
/// How long the archive is waited for before a barrier, and before the database is closed.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);
/// What may be captured behind a barrier, in bytes: it is held in memory.
const BARRIER_BYTES_MAX: u64 = 4 << 20;
/// How often is captured until so little is left.
const BARRIER_CAPTURES: usize = 6;
/// How long a lock is waited for when the capture begins.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// The capture of a database for an archive.
pub struct ArchiveCapture {
    path: PathBuf,
    sink: Box<dyn ArchiveSink>,
    capture: Option<WalCapture>,
    /// Whether nothing was found against it.
    is_allowed: bool,
    is_opening: bool,
    /// Whether the transaction of the last moment is open.
    moment: Option<Arc<AtomicBool>>,
    renewed: Instant,
    not_before: Instant,
    pause: Duration,
    /// Since when the archive keeps the WAL from being begun anew.
    blocks_since: Option<Instant>,
}

impl ArchiveCapture {
    /// One that has not begun yet.
    pub fn new(path: &Path, sink: Box<dyn ArchiveSink>) -> ArchiveCapture {
        let (path, now) = (path.to_path_buf(), Instant::now());
        ArchiveCapture {
            path,
            sink,
            capture: None,
            is_allowed: false,
            is_opening: false,
            moment: None,
            renewed: now,
            not_before: now,
            pause: RETRY_PAUSE,
            blocks_since: None,
        }
    }

    /// Lets it begin.
    pub fn allow(&mut self) {
        self.is_allowed = true;
    }

    /// Does what is due: begins, notes what the archive has saved, and gives it what was committed since. Returns the pause
    /// before the next turn.
    pub fn turn(&mut self, stopping: &Arc<AtomicBool>) -> Duration {
        if self.is_allowed && self.capture.is_none() && Instant::now() >= self.not_before {
            let begun = self.begin(stopping);
            self.give_up_after(begun);
        }
        if self.capture.is_some() {
            let proceeded = self.proceed(stopping);
            self.give_up_after(proceeded);
        }
        match &self.capture {
            _ if self.sink.is_saving() => SAVE_PAUSE,
            Some(_) => RENEW_INTERVAL.saturating_sub(self.renewed.elapsed()).max(SAVE_PAUSE),
            None => RENEW_INTERVAL,
        }
    }

    fn begin(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        if !self.is_opening {
            self.is_opening = true;
            self.sink.open();
        }
        match self.sink.saving() {
            Saving::Done => {}
            Saving::Since(_) => return Ok(()),
            Saving::Failed(error) => return Err(error),
        }
        self.is_opening = false;
        let wait = WaitPolicy::silent(START_TIMEOUT, stopping);
        let (capture, gap) = WalCapture::start(&self.path, self.sink.position(), &wait)?;
        if gap.is_err() {
            let file = LiveFile::open(&self.path, capture.page_bytes());
            self.sink
                .begin(Box::new(file.map_err(|e| super::file_error::unreadable(&self.path, &e))?));
        }
        self.capture = Some(capture);
        Ok(())
    }

    /// Whether nothing is being saved. What cannot be saved is lost: the capture ends.
    fn is_idle(&mut self) -> Result<bool> {
        let lost = match self.sink.saving() {
            Saving::Done => {
                self.pause = RETRY_PAUSE;
                self.capture.as_mut().map_or(Ok(()), WalCapture::let_go)?;
                return Ok(true);
            }
            Saving::Since(time) if time > SAVE_TIMEOUT => {
                let what = "the archive takes too long to save what was committed";
                Error::new(Kind::Io, what).at(self.path.display())
            }
            Saving::Since(_) => return Ok(false),
            Saving::Failed(error) => error,
        };
        self.give_up(lost);
        Ok(false)
    }

    fn proceed(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        let is_idle = self.is_idle()?;
        let Some(capture) = &self.capture else { return Ok(()) };
        let blocks_long = self.blocks_since.is_some_and(|since| since.elapsed() > BLOCK_MAX);
        if (!is_idle || blocks_long) && capture.wal_bytes()? > GIVE_UP_BYTES {
            return Err(self.too_long());
        }
        if !is_idle {
            return Ok(());
        }
        if self.renewed.elapsed() >= RENEW_INTERVAL {
            self.renewed = Instant::now();
            if self.sink.wants_moment() {
                return self.give_with_moment(stopping);
            }
            let captured = self.capture.as_mut().map(WalCapture::capture).transpose()?;
            self.give(captured)?;
        }
        Ok(())
    }

    /// Gives the archive what was committed, and the database as it is after that, if no program commits at that moment.
    fn give_with_moment(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        let wait = WaitPolicy::silent(START_TIMEOUT, stopping);
        let moment = SqliteMoment::open(&self.path, &wait)?;
        let captured = self.capture.as_mut();
        let captured =
            captured.map(|capture| capture.capture_beside(moment.reader())).transpose()?;
        let (captured, is_seen) = captured.unzip();
        self.give(captured)?;
        if is_seen == Some(true) {
            self.moment = moment.keeps_wal();
            self.sink.moment(Box::new(moment));
        }
        Ok(())
    }

    fn give(&mut self, captured: Option<Captured>) -> Result<()> {
        match captured {
            Some(Captured::Pages(pages)) => self.sink.save(Box::new(pages)),
            Some(Captured::Nothing(place)) => self.sink.found_nothing(place),
            Some(Captured::Gap(gap)) => {
                let what = match gap {
                    CaptureGap::Restarted => "the WAL was begun anew before it was archived",
                    CaptureGap::NotHeld => "the WAL could not be held again after it was emptied",
                };
                return Err(
                    Error::new(Kind::Data, what).at(side_file(&self.path, "-wal").display())
                );
            }
            None => {}
        }
        Ok(())
    }

    fn too_long(&self) -> Error {
        let what = "the WAL became too long while the archive could not be written";
        Error::new(Kind::Io, what).at(side_file(&self.path, "-wal").display())
    }

    fn give_up_after(&mut self, done: Result<()>) {
        let Err(error) = done else { return };
        // Busy: nothing is lost, as long as the WAL is held.
        if error.kind == Kind::TryAgain && self.capture.is_some() {
            return;
        }
        self.give_up(error);
    }

    /// Lets go of the WAL: what is committed now is not known.
    fn give_up(&mut self, why: Error) {
        (self.capture, self.is_opening, self.blocks_since) = (None, false, None);
        self.sink.gap(why);
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
    }

    /// Gives the archive nearly all, so that little is left to capture behind a barrier. Returns whether that is saved.
    pub fn prepare_barrier(&mut self) -> bool {
        let is_prepared = self.prepare();
        self.note_block(!is_prepared);
        is_prepared
    }

    fn note_block(&mut self, blocks: bool) {
        self.blocks_since = blocks.then(|| self.blocks_since.unwrap_or_else(Instant::now));
    }

    fn prepare(&mut self) -> bool {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        // While the one is saved, less is committed than it had.
        for _ in 0..BARRIER_CAPTURES {
            if !self.settle(deadline) {
                return false;
            }
            let captured = self.capture.as_mut().map(WalCapture::capture).transpose();
            let is_little = !captured.as_ref().is_ok_and(
                |captured| matches!(captured, Some(Captured::Pages(pages)) if pages.bytes() > BARRIER_BYTES_MAX / 2),
            );
            let given = captured.and_then(|captured| self.give(captured));
            self.give_up_after(given);
            if is_little {
                break;
            }
        }
        self.capture.is_some() && self.settle(deadline)
    }

    /// Waits until nothing is being saved. Returns whether that is so.
    fn settle(&mut self, deadline: Instant) -> bool {
        loop {
            match self.is_idle() {
                Ok(true) => return true,
                Ok(false) if self.capture.is_some() && Instant::now() < deadline => {
                    std::thread::sleep(SETTLE_PAUSE);
                }
                Ok(false) => return false,
                Err(error) => {
                    self.give_up_after(Err(error));
                    return false;
                }
            }
        }
    }

    /// Has the next writer begin the WAL anew: called with the write lock, and with what copies the WAL into the file. Returns
    /// whether it was tried; not while something is being saved, or where more than a little is left.
    pub fn pass_barrier(&mut self, checkpoint: impl FnOnce() -> Result<()>) -> Result<bool> {
        if self.capture.is_none() {
            return checkpoint().map(|()| true);
        }
        if !self.settle(Instant::now()) {
            return Ok(false);
        }
        let mut copied = Ok(());
        let passed = self
            .capture
            .as_mut()
            .map(|capture| capture.pass_barrier(BARRIER_BYTES_MAX, || copied = checkpoint()));
        let captured = passed.transpose()?.flatten();
        self.note_block(captured.is_none());
        let Some(captured) = captured else { return Ok(false) };
        let given = self.give(Some(captured));
        self.give_up_after(given);
        copied.map(|()| true)
    }

    /// Lets go of the WAL, and does not hold it again before it is allowed to: what is committed belongs to nobody's archive, for
    /// this reason.
    pub fn leave(&mut self, why: Error) {
        self.is_allowed = false;
        if self.capture.is_some() || Instant::now() >= self.not_before {
            self.give_up_after(Err(why));
        }
    }

    /// Whether the live database is being read for a trial of the archive, in this process: no barrier can be passed then.
    pub fn is_moment_read(&self) -> bool {
        self.moment.as_ref().is_some_and(|open| open.load(Ordering::Relaxed))
    }

    /// Whether the WAL is held.
    pub fn holds_wal(&self) -> bool {
        self.capture.is_some()
    }

    /// Gives the archive the rest and ends, before the database is closed.
    pub fn finish(&mut self) {
        // What is not archived now is known to the next start, which finds it in the WAL or begins anew.
        let deadline = Instant::now() + FINISH_TIMEOUT;
        if self.settle(deadline)
            && let Some(capture) = &mut self.capture
            && let Ok(captured) = capture.capture()
        {
            let _ = self.give(Some(captured));
            self.settle(deadline);
        }
        self.capture = None;
    }
}

/// The file of an open database.
struct LiveFile {
    file: &'static File,
    page_bytes: u32,
}

impl LiveFile {
    fn open(path: &Path, page_bytes: u32) -> io::Result<LiveFile> {
        Ok(LiveFile { file: keep_open(path)?, page_bytes })
    }
}

impl RawDatabase for LiveFile {
    fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    fn pages(&self) -> io::Result<u32> {
        let pages = self.file.metadata()?.len() / u64::from(self.page_bytes);
        u32::try_from(pages).map_err(io::Error::other)
    }

    fn read(&self, first: u32, images: &mut [u8]) -> io::Result<()> {
        let mut offset = u64::from(first.saturating_sub(1)) * u64::from(self.page_bytes);
        let mut rest = images;
        while !rest.is_empty() {
            match self.file.read_at(rest, offset) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(count) => {
                    offset += count as u64;
                    rest = &mut rest[count..];
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
