//! The thread that writes the archive: a base first, then what the capture gives it, each capture a segment.
//!
//! While a base is made, what is captured goes into it. While its file is written, captures become segments behind it, which
//! are listed once the base is.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::base::{BaseCopy, BaseEncoding};
use super::chain::{Segment, SegmentKind, SegmentList};
use super::compaction::{self, SegmentCompaction};
use super::drill::{self, ArchiveDrill, ArchivedMoment};
use super::folder::{ArchiveFolder, WriteLock, cannot_read, cannot_write, is_base};
use super::mount_point::MountPoint;
use super::status::{ArchiveStatus, LAG_MAX, nothing_for};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::archive::{
    ArchiveSink, CapturePlace, CommittedPages, DatabaseMoment, RawDatabase, Saving, WalPosition,
};
use crate::system::clock::unix_milliseconds;
use crate::system::deadline::cannot_start_thread;

/// The name of the thread.
const THREAD: &str = "archive";

/// How often whoever waits for a moment looks whether it is to end.
const MOMENT_PAUSE: Duration = Duration::from_millis(100);

/// Why a base is made where nothing else is known.
const NOT_HELD: &str = "the WAL was not held meanwhile";

/// What the thread is told.
enum Message {
    /// For the database of this id.
    Open(String),
    Begin(Box<dyn RawDatabase>),
    Save(Box<dyn CommittedPages>),
    /// Nothing more was committed.
    Nothing(CapturePlace),
    Gap(Error),
    /// The live database after what was given before, and who asked for it.
    Moment(Box<dyn DatabaseMoment>, Sender<ArchivedMoment>),
    /// The file of a segment is damaged: its place in the list, and the list. Tells how that went.
    Damaged {
        place: usize,
        planned: Vec<Segment>,
        why: Error,
        told: Sender<Result<()>>,
    },
    /// How it is doing, to be written for the commands.
    Status(ArchiveStatus),
    /// Asks for the list.
    List(Sender<Vec<Segment>>),
    /// A part of the list is another one now. Tells how that went.
    Compacted {
        done: SegmentCompaction,
        planned: Vec<Segment>,
        new: Option<Segment>,
        told: Sender<Result<()>>,
    },
}

/// How the archive is doing.
#[derive(Clone, Debug)]
pub struct ArchiveState {
    /// When the thread was started.
    started: Instant,
    /// When all that was committed was archived last.
    pub current_at: Option<Instant>,
    /// Why it is not archived now, if it is not.
    pub fault: Option<Error>,
    /// Whether a base is being made.
    pub makes_base: bool,
    /// How often what was committed before was not known.
    pub gaps: u64,
    /// When the newest archived transaction was found, in milliseconds since 1970.
    pub newest: Option<i64>,
    /// Size of all segments in bytes.
    pub bytes: u64,
    /// What restoring it for a trial has shown last.
    pub drill: Option<ArchiveDrill>,
}

impl Default for ArchiveState {
    fn default() -> ArchiveState {
        ArchiveState {
            started: Instant::now(),
            current_at: None,
            fault: None,
            makes_base: false,
            gaps: 0,
            newest: None,
            bytes: 0,
            drill: None,
        }
    }
}

impl ArchiveState {
    /// The time for which what was committed may not be archived; `None` before the first capture that was archived.
    pub fn lag(&self) -> Option<Duration> {
        self.current_at.map(|at| at.elapsed())
    }

    /// Whether all that was committed is archived, up to little.
    pub fn is_current(&self) -> bool {
        self.current_at.is_some() && self.problem().is_none() && !self.makes_base
    }

    /// Why what is committed is not archived; `None` where no more than [`LAG_MAX`] is not.
    pub fn problem(&self) -> Option<Error> {
        let time = self.lag().unwrap_or_else(|| self.started.elapsed());
        let late = || (time > LAG_MAX).then(|| nothing_for(time, self.makes_base));
        let remedy = "check the disk of CTS_ARCHIVE_DIR";
        self.fault.clone().or_else(|| late().map(|error| error.remedy(remedy)))
    }
}

/// What the thread shares with the others.
#[derive(Default)]
struct WriterState {
    state: ArchiveState,
    position: Option<WalPosition>,
    /// What the capture has given that is not answered yet, and since when the last of it.
    given: u32,
    given_at: Option<Instant>,
    /// Why the last could not be saved.
    failure: Option<Error>,
    /// Whether the next base has to be made, whatever the WAL still has.
    must_begin_anew: bool,
    /// Who waits for a moment.
    moment_for: Option<Sender<ArchivedMoment>>,
    /// Whether the capture has let go of the WAL, and has not begun again.
    is_given_up: bool,
}

impl WriterState {
    /// All that was committed before this moment is archived.
    fn note_current(&mut self, at: Option<Instant>) {
        self.state.current_at = at;
        if !self.is_given_up && self.failure.is_none() {
            self.state.fault = None;
        }
    }
}

type SharedWriterState = Arc<Mutex<WriterState>>;

fn of(shared: &SharedWriterState) -> MutexGuard<'_, WriterState> {
    // What it holds is whole after each statement.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running thread. It ends once this and all that the capture has of it are dropped, after what it was given.
pub struct ArchiveWriter {
    folder: ArchiveFolder,
    messages: Sender<Message>,
    shared: SharedWriterState,
}

impl ArchiveWriter {
    /// Starts the thread. The folder is opened once the capture asks for it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(folder: &ArchiveFolder) -> Result<ArchiveWriter> {
        let shared = SharedWriterState::default();
        let folder = folder.clone();
        let mut writer = Thread {
            folder: folder.clone(),
            mount: None,
            database: String::new(),
            lock: None,
            chain: SegmentList::default(),
            list_bytes: 0,
            work: Work::None,
            gap: None,
            captured_at: None,
            shared: Arc::clone(&shared),
        };
        let (messages, received) = mpsc::channel();
        let thread =
            thread::Builder::new().name(THREAD.into()).spawn(move || writer.run(&received));
        thread
            .map(|_| ArchiveWriter { folder, messages, shared })
            .map_err(|e| cannot_start_thread(&e))
    }

    /// What the capture of the database of this id gives its pages to.
    pub fn sink(&self, database: String) -> Box<dyn ArchiveSink> {
        let (messages, shared) = (self.messages.clone(), Arc::clone(&self.shared));
        Box::new(Sink { folder: self.folder.path().to_path_buf(), database, messages, shared })
    }

    /// Does what is due to the segments that have aged, one thing. Returns whether there was any.
    ///
    /// # Errors
    /// A file cannot be read, or a new one cannot be written: the archive is as it was then. Or a file is damaged: what cannot be
    /// restored without it is put aside, and the archive goes on as after a gap.
    pub fn compact(&self, keep: Duration) -> Result<bool> {
        let ended = || Error::new(Kind::Io, "the thread of the archive has ended");
        let (to, listed) = mpsc::channel();
        self.messages.send(Message::List(to)).map_err(|_| ended())?;
        let planned = listed.recv().map_err(|_| ended())?;
        let Some(done) = compaction::plan(&planned, unix_milliseconds(), keep) else {
            return Ok(false);
        };
        let new = match done.write(&self.folder, &planned) {
            Ok(new) => new,
            Err(error) => {
                if let Some((place, why)) = done.damage(&self.folder, &planned) {
                    let (told, answer) = mpsc::channel();
                    let message = Message::Damaged { place, planned, why, told };
                    self.messages.send(message).map_err(|_| ended())?;
                    answer.recv().map_err(|_| ended())??;
                }
                return Err(error);
            }
        };
        let (told, answer) = mpsc::channel();
        let message = Message::Compacted { done, planned, new, told };
        self.messages.send(message).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?.map(|()| true)
    }

    /// The live database at the next capture after which it can be seen, and its segments.
    ///
    /// # Errors
    /// None came in time, or `wait` was cancelled.
    pub fn moment(&self, timeout: Duration, wait: &WaitPolicy<'_>) -> Result<ArchivedMoment> {
        let (to, moments) = mpsc::channel();
        of(&self.shared).moment_for = Some(to);
        let deadline = Instant::now() + timeout;
        loop {
            match moments.recv_timeout(MOMENT_PAUSE) {
                Ok(moment) => return Ok(moment),
                Err(RecvTimeoutError::Timeout)
                    if Instant::now() < deadline && self.state().fault.is_none() =>
                {
                    wait.check_cancelled()?;
                }
                Err(_) => {
                    of(&self.shared).moment_for = None;
                    return Err(drill::no_moment());
                }
            }
        }
    }

    /// Keeps what a drill has shown.
    pub fn note_drill(&self, drill: Option<ArchiveDrill>) {
        of(&self.shared).state.drill = drill;
    }

    /// How it is doing, for a report.
    pub fn status(&self) -> ArchiveStatus {
        ArchiveStatus::of(self.folder.path(), &self.state())
    }

    /// Has it written for the commands how it is doing, if the folder is there.
    pub fn write_status(&self, status: ArchiveStatus) {
        // Without the thread nothing is archived, which is said.
        let _ = self.messages.send(Message::Status(status));
    }

    /// Has the archive begin anew with a full copy, for this reason.
    pub fn begin_anew(&self, why: &Error) {
        let mut shared = of(&self.shared);
        shared.must_begin_anew = true;
        shared.failure = Some(why.clone());
    }

    /// Its folder.
    pub fn folder(&self) -> &ArchiveFolder {
        &self.folder
    }

    /// How it is doing.
    pub fn state(&self) -> ArchiveState {
        of(&self.shared).state.clone()
    }
}

/// What the capture has of the archive.
struct Sink {
    folder: PathBuf,
    database: String,
    messages: Sender<Message>,
    shared: SharedWriterState,
}

impl Sink {
    fn send(&self, message: Message) {
        let mut shared = of(&self.shared);
        shared.given += 1;
        shared.given_at = Some(Instant::now());
        if self.messages.send(message).is_err() {
            (shared.given, shared.given_at) = (0, None);
            shared.failure = Some(Error::new(Kind::Io, "the thread of the archive has ended"));
        }
    }
}

impl ArchiveSink for Sink {
    fn open(&mut self) {
        self.send(Message::Open(self.database.clone()));
    }

    fn position(&self) -> Option<WalPosition> {
        let shared = of(&self.shared);
        shared.position.filter(|_| !shared.must_begin_anew)
    }

    fn begin(&mut self, file: Box<dyn RawDatabase>) {
        let mut shared = of(&self.shared);
        (shared.state.makes_base, shared.must_begin_anew, shared.is_given_up) =
            (true, false, false);
        drop(shared);
        self.send(Message::Begin(file));
    }

    fn save(&mut self, pages: Box<dyn CommittedPages>) {
        of(&self.shared).is_given_up = false;
        self.send(Message::Save(pages));
    }

    fn saving(&mut self) -> Saving {
        let mut shared = of(&self.shared);
        match (shared.failure.take(), shared.given_at) {
            (Some(error), _) => Saving::Failed(error),
            (None, Some(since)) => Saving::Since(since.elapsed()),
            (None, None) => Saving::Done,
        }
    }

    fn is_saving(&self) -> bool {
        of(&self.shared).given > 0
    }

    fn found_nothing(&mut self, place: CapturePlace) {
        let mut shared = of(&self.shared);
        shared.is_given_up = false;
        if shared.state.makes_base {
            drop(shared);
            // Without the thread nothing is archived, which the next pages tell.
            let _ = self.messages.send(Message::Nothing(place));
        } else if shared.given == 0 && shared.failure.is_none() {
            shared.note_current(Some(place.began));
        }
    }

    fn wants_moment(&self) -> bool {
        let shared = of(&self.shared);
        shared.moment_for.is_some() && !shared.state.makes_base
    }

    fn moment(&mut self, moment: Box<dyn DatabaseMoment>) {
        if let Some(to) = of(&self.shared).moment_for.take() {
            // Without the thread whoever asked is told that there is none.
            let _ = self.messages.send(Message::Moment(moment, to));
        }
    }

    fn gap(&mut self, why: Error) {
        let mut shared = of(&self.shared);
        let fault = why.clone();
        shared.state.fault = Some(match &fault.remedy {
            Some(_) => fault,
            None => fault.remedy(format!("check the disk of {}", self.folder.display())),
        });
        // What it still has is answered later: until then, nothing more is given.
        shared.is_given_up = true;
        drop(shared);
        // Without the thread nothing is archived, which is known.
        let _ = self.messages.send(Message::Gap(why));
    }
}

/// What the thread does between two messages.
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Work {
    None,
    Copy(BaseCopy, CapturedEnd),
    /// All is copied since this moment. The next capture that begins later completes the copy.
    Complete(BaseCopy, CapturedEnd, Instant),
    Encode(BaseEncoding, Vec<Segment>),
}

/// What the captures said that went into a copy.
#[derive(Clone, Copy)]
struct CapturedEnd {
    commits: u64,
    pages: u32,
    at: i64,
    place: CapturePlace,
}

struct Thread {
    folder: ArchiveFolder,
    /// The file system that the folder was on when it was opened first, if it is not that of the root.
    mount: Option<MountPoint>,
    /// The id of the database.
    database: String,
    /// Once it is open.
    lock: Option<WriteLock>,
    chain: SegmentList,
    /// Size of the list as it was written.
    list_bytes: u64,
    work: Work,
    /// Why the changes before the next base are not known.
    gap: Option<String>,
    /// When the last capture began that was given.
    captured_at: Option<Instant>,
    shared: SharedWriterState,
}

impl Thread {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = match &self.work {
                Work::None | Work::Complete(..) => {
                    messages.recv().map_err(|_| TryRecvError::Disconnected)
                }
                _ => messages.try_recv(),
            };
            match message {
                Ok(Message::Open(database)) => {
                    self.database = database;
                    let opened = self.open();
                    self.done(opened, false);
                }
                Ok(Message::Begin(file)) => {
                    let begun = self.begin(file);
                    self.done(begun, false);
                }
                Ok(Message::Save(pages)) => {
                    let saved = self.save(pages.as_ref());
                    drop(pages);
                    self.done(saved, false);
                }
                Ok(Message::Nothing(place)) => {
                    let completed = self.complete_copy(place);
                    self.done(completed, true);
                }
                Ok(Message::Gap(why)) => {
                    self.leave_work();
                    self.gap = Some(why.message());
                    of(&self.shared).state.makes_base = false;
                }
                Ok(Message::Damaged { place, planned, why, told }) => {
                    let _ = told.send(self.leave_damaged(place, &planned, &why));
                }
                Ok(Message::Moment(live, to)) => {
                    // Whoever asks may have ended.
                    self.newest().map(|segments| to.send(ArchivedMoment { live, segments }));
                }
                // Where it cannot be written, what is there becomes old, which the commands say.
                Ok(Message::Status(status)) => drop(self.is_open().map(|()| status.write())),
                // Whoever asks may have ended.
                Ok(Message::List(to)) => drop(to.send(self.chain.segments.clone())),
                Ok(Message::Compacted { done, planned, new, told }) => {
                    let _ = told.send(self.compacted(&done, &planned, new));
                }
                Err(TryRecvError::Empty) => {
                    let work = std::mem::replace(&mut self.work, Work::None);
                    let worked = self.proceed(work).map(|work| self.work = work);
                    self.done(worked, true);
                }
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Tells the capture how it went.
    fn done(&mut self, done: Result<()>, is_work: bool) {
        let makes_base = !matches!(self.work, Work::None);
        let mut shared = of(&self.shared);
        if !is_work {
            shared.given = shared.given.saturating_sub(1);
            shared.given_at = shared.given_at.filter(|_| shared.given > 0);
        }
        shared.state.makes_base = makes_base;
        drop(shared);
        if let Err(error) = done {
            self.fail(error);
        }
    }

    /// Has the capture let go of the WAL. The folder is opened anew then, since what was written of it is not known.
    fn fail(&mut self, error: Error) {
        self.leave_work();
        self.lock = None;
        self.gap = Some(error.message());
        let mut shared = of(&self.shared);
        shared.state.makes_base = false;
        shared.state.fault = Some(error.clone());
        shared.failure = Some(error);
    }

    /// Removes what was written of a base and behind it, and is not listed.
    fn leave_work(&mut self) {
        if let Work::Encode(base, behind) = std::mem::replace(&mut self.work, Work::None) {
            self.folder.remove(&behind);
            // Its copy says until now that they are of a base that is being made.
            drop(base);
        }
    }

    /// Puts what cannot be restored without a damaged file aside, up to the next base. The capture begins again.
    fn leave_damaged(&mut self, place: usize, planned: &[Segment], why: &Error) -> Result<()> {
        self.is_open()?;
        if !self.chain.segments.starts_with(planned) {
            return Err(Error::new(Kind::TryAgain, "the list of the archive has changed"));
        }
        let segments = &self.chain.segments;
        let behind = segments.get(place + 1..).unwrap_or_default();
        let end = behind.iter().position(is_base).map(|at| place + 1 + at);
        let lost = segments.get(place..end.unwrap_or(segments.len())).unwrap_or_default().to_vec();
        let after = segments.get(end.unwrap_or(segments.len())..).unwrap_or_default().iter();
        let after = after.cloned().enumerate().map(|(at, mut segment)| {
            if at == 0 && segment.gap.is_none() {
                segment.gap = Some(why.message());
            }
            segment
        });
        let before = segments.get(..place).unwrap_or_default().iter().cloned();
        let chain = SegmentList::of(before.chain(after))?;
        self.folder.put_aside(&lost)?;
        self.replace_list(chain)?;
        if end.is_none() {
            self.fail(why.clone());
        }
        Ok(())
    }

    /// Whether the folder is open, and still the one that was opened.
    fn is_open(&self) -> Result<()> {
        match &self.lock {
            Some(lock) => self.folder.is_locked_by(lock),
            None => Err(Error::new(Kind::Io, "it is not open").at(self.folder.path().display())),
        }
    }

    fn replace_list(&mut self, chain: SegmentList) -> Result<()> {
        self.list_bytes = self.folder.replace_list(&chain)?;
        self.chain = chain;
        self.note_size();
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        if self.lock.is_some() && self.is_open().is_ok() {
            return Ok(());
        }
        self.lock = None;
        self.mount.as_ref().map_or(Ok(()), MountPoint::is_mounted)?;
        let lock = self.folder.lock()?;
        if self.mount.is_none() {
            self.mount = MountPoint::of(self.folder.path());
        }
        let listed = self.folder.list()?;
        let of_another =
            |base: &Segment| base.database.as_ref().is_some_and(|id| *id != self.database);
        if listed.chain.segments.iter().rfind(|segment| is_base(segment)).is_some_and(of_another) {
            let what =
                "it is the archive of another database. Each database needs a folder of its own";
            return Err(Error::new(Kind::Config, what).at(self.folder.path().display()));
        }
        self.gap = listed.fault.as_ref().map(Error::message).or(self.gap.take());
        (self.chain, self.list_bytes) = self.folder.prepare(listed)?;
        self.lock = Some(lock);
        of(&self.shared).position = self.chain.segments.last().and_then(|last| last.position);
        self.note_size();
        Ok(())
    }

    fn begin(&mut self, file: Box<dyn RawDatabase>) -> Result<()> {
        self.is_open()?;
        let pages = file.pages().map_err(|e| cannot_read(self.folder.path(), &e))?;
        let position = WalPosition { salts: [0; 8], frames: 0, sums: [0; 8] };
        let place = CapturePlace { began: Instant::now(), position };
        let end = CapturedEnd { commits: 0, pages, at: unix_milliseconds(), place };
        self.work = Work::Copy(BaseCopy::begin(&self.folder, file)?, end);
        Ok(())
    }

    /// A copy that is complete is the database at a capture that began later.
    fn complete_copy(&mut self, place: CapturePlace) -> Result<()> {
        self.captured_at = Some(place.began);
        match std::mem::replace(&mut self.work, Work::None) {
            Work::Complete(copy, end, at) if place.began > at => {
                let last = self.next();
                let segment = Segment {
                    kind: SegmentKind::Base,
                    level: 0,
                    first: last,
                    last,
                    commits: end.commits,
                    pages: end.pages,
                    // The clock may have been set back.
                    at: self.chain.segments.last().map_or(end.at, |before| end.at.max(before.at)),
                    checksum: 0,
                    bytes: 0,
                    database: Some(self.database.clone()),
                    position: Some(place.position),
                    gap: self.gap.take().or_else(|| (last > 1).then(|| NOT_HELD.to_string())),
                };
                self.work = Work::Encode(copy.encode(&self.folder, segment)?, Vec::new());
            }
            work => self.work = work,
        }
        Ok(())
    }

    fn proceed(&mut self, work: Work) -> Result<Work> {
        match work {
            Work::None | Work::Complete(..) => Ok(work),
            Work::Copy(mut copy, end) => Ok(match copy.copy_some()? {
                true => Work::Complete(copy, end, Instant::now()),
                false => Work::Copy(copy, end),
            }),
            Work::Encode(mut base, behind) => {
                if !base.write_some(&self.folder)? {
                    return Ok(Work::Encode(base, behind));
                }
                self.is_open()?;
                let (segment, copy) = base.finish(&self.folder)?;
                let mut lines = self.chain.add(segment.clone())?;
                for segment in &behind {
                    lines += &self.chain.add(segment.clone())?;
                }
                self.listed(&lines).inspect_err(|_| {
                    self.folder.remove(&behind);
                    self.folder.remove(&[segment]);
                })?;
                // It says until now that they are of a base that is being made.
                drop(copy);
                Ok(Work::None)
            }
        }
    }

    /// The segments of the newest moment, where all that was given is listed.
    fn newest(&self) -> Option<Vec<Segment>> {
        let is_listed = matches!(self.work, Work::None) && self.gap.is_none();
        self.chain.until(i64::MAX).filter(|_| is_listed).map(<[Segment]>::to_vec)
    }

    /// The number of the next segment that is listed.
    fn next(&self) -> u64 {
        self.chain.segments.last().map_or(1, |segment| segment.last + 1)
    }

    fn save(&mut self, pages: &dyn CommittedPages) -> Result<()> {
        self.is_open()?;
        self.captured_at = Some(pages.place().began);
        let end = CapturedEnd {
            commits: pages.commits(),
            pages: pages.pages(),
            at: pages.found_at(),
            place: pages.place(),
        };
        match &mut self.work {
            Work::Copy(copy, last) | Work::Complete(copy, last, _) => {
                copy.apply(pages)?;
                *last = CapturedEnd { commits: last.commits + end.commits, ..end };
                self.complete_copy(end.place)
            }
            Work::Encode(base, behind) => {
                let before = behind.last().unwrap_or(base.segment());
                let segment = write_changes(&self.folder, before, pages)?;
                behind.push(segment);
                Ok(())
            }
            Work::None => {
                let before = self.chain.segments.last().ok_or_else(|| {
                    Error::new(Kind::Data, "there is no base").at(self.folder.path().display())
                })?;
                let segment = write_changes(&self.folder, before, pages)?;
                let line = self.chain.add(segment)?;
                self.listed(&line)?;
                self.gap = None;
                Ok(())
            }
        }
    }

    /// Writes lines of the list. They are taken back where that fails.
    fn listed(&mut self, lines: &str) -> Result<()> {
        let count = lines.matches('\n').count();
        let appended = self
            .folder
            .append(lines, self.list_bytes)
            .and_then(|bytes| self.is_open().map(|()| bytes));
        if let Err(error) = appended {
            let kept = self.chain.segments.len().saturating_sub(count);
            let kept = self.chain.segments.drain(..kept).collect::<Vec<_>>();
            self.chain = SegmentList::of(kept)?;
            return Err(error);
        }
        self.list_bytes += lines.len() as u64;
        let mut shared = of(&self.shared);
        if let Some(last) = self.chain.segments.last() {
            shared.position = last.position;
            shared.state.newest = Some(last.at);
        }
        shared.note_current(self.captured_at);
        drop(shared);
        self.note_size();
        Ok(())
    }

    fn compacted(
        &mut self,
        done: &SegmentCompaction,
        planned: &[Segment],
        new: Option<Segment>,
    ) -> Result<()> {
        self.is_open()?;
        let (chain, gone) = done.apply(&self.chain, planned, new)?;
        self.replace_list(chain)?;
        self.folder.remove(&gone);
        Ok(())
    }

    fn note_size(&mut self) {
        let segments = &self.chain.segments;
        let mut shared = of(&self.shared);
        shared.state.bytes = segments.iter().map(|segment| segment.bytes).sum();
        shared.state.gaps = segments.iter().filter(|segment| segment.gap.is_some()).count() as u64;
        shared.state.newest = segments.last().map(|segment| segment.at);
    }
}

/// Writes what was committed behind a segment.
fn write_changes(
    folder: &ArchiveFolder,
    before: &Segment,
    pages: &dyn CommittedPages,
) -> Result<Segment> {
    let mut segment = Segment {
        kind: SegmentKind::Changes,
        level: 0,
        first: before.last + 1,
        last: before.last + 1,
        commits: pages.commits(),
        pages: pages.pages(),
        at: pages.found_at().max(before.at),
        checksum: 0,
        bytes: 0,
        position: Some(pages.place().position),
        database: None,
        gap: None,
    };
    let path = folder.file(segment.file());
    let grown_from = before.pages + 1;
    folder.write(&mut segment, pages.page_bytes(), |writer| {
        let mut image = vec![0; pages.page_bytes() as usize];
        let mut grown = grown_from;
        for (place, page) in pages.numbers().iter().enumerate() {
            // Pages that were never written have no frame.
            image.fill(0);
            for unwritten in grown..*page {
                writer.page(unwritten, &image).map_err(|e| cannot_write(&path, &e))?;
            }
            grown = grown.max(page + 1);
            pages.read(place, &mut image).map_err(|e| cannot_read(&path, &e))?;
            writer.page(*page, &image).map_err(|e| cannot_write(&path, &e))?;
        }
        image.fill(0);
        for unwritten in grown..=pages.pages() {
            writer.page(unwritten, &image).map_err(|e| cannot_write(&path, &e))?;
        }
        Ok(())
    })?;
    Ok(segment)
}
