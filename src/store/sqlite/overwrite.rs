//! Notices a database file that another program overwrites in place (`cp backup cts.db`) while it is open.
//!
//! While a database is in WAL mode and open, only checkpoints write to its file, and they write nothing but
//! page images of the WAL. So a page may differ from what it was before only if a frame that was not
//! copied at that time holds it, and be gone only if a transaction since then left the database shorter. Some
//! pages are remembered; one that differs otherwise was written by no checkpoint. It is
//! judged only where the WAL tells all frames since then:
//!
//! - no transaction was committed;
//! - the WAL is still the same generation (same salts);
//! - all transactions since then are in the present generation. Others may have been added to the one before,
//!   while a read kept it from being reset, and copied by the checkpoint of another program. The counter of
//!   transactions in the wal-index tells how many there were.
//!
//! So the state is remembered before a checkpoint too: after it, the next writer may reset the WAL.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::error::is_damage;
use super::kept_open::keep_open;
use super::wal_index::WalIndexHeader;
use super::watched_wal::{CheckpointedFrames, WalState, WatchError, WatchedWal};

/// Pages that are remembered: those written last, of which an older copy lacks the newest content.
const PAGES_MAX: usize = 64;
/// How often the state is read until the file does not change meanwhile.
const ATTEMPTS: usize = 3;
/// The time of a file is that of the last tick of the clock, which are 1 to 10 ms apart (CONFIG_HZ), so that two
/// writes within a tick leave the same time.
const CLOCK_TICK_MAX: Duration = Duration::from_millis(20);

/// Watches the file of a database.
pub struct OverwriteWatch {
    file: &'static File,
    wal: WatchedWal,
    last: Option<WatchedState>,
}

/// The state of the file and the WAL at one moment.
struct WatchedState {
    stamp: Stamp,
    wal: WalState,
    /// The frames that were not copied, which the WAL no longer has once it was reset; `None` where they are many.
    pending: Option<CheckpointedFrames>,
    /// SHA-256 of remembered pages.
    pages: BTreeMap<u32, [u8; 32]>,
}

/// What changes with each write to the file.
struct Stamp {
    modified: SystemTime,
    size_bytes: u64,
    /// Whether it was so recent that a write after it may have left the same time.
    is_recent: bool,
}

impl Stamp {
    fn equals(&self, other: &Stamp) -> bool {
        (self.modified, self.size_bytes) == (other.modified, other.size_bytes)
    }

    /// Whether nothing was written to the file from this moment to a later one.
    fn proves_unchanged(&self, later: &Stamp) -> bool {
        !self.is_recent && self.equals(later)
    }
}

impl OverwriteWatch {
    /// Begins to watch a database that a connection of this process has read. The first state to compare with is
    /// that which `observe` remembers.
    ///
    /// # Errors
    /// The file, or its wal-index, cannot be opened.
    pub fn new(path: &Path, page_bytes: u64) -> io::Result<OverwriteWatch> {
        let (file, wal) = (keep_open(path)?, WatchedWal::new(path, page_bytes)?);
        Ok(OverwriteWatch { file, wal, last: None })
    }

    /// What the wal-index says; `None` where a program commits at this moment.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn wal_index_header(&self) -> io::Result<Option<WalIndexHeader>> {
        self.wal.index_header()
    }

    /// Whether another process reads the WAL.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn has_readers_elsewhere(&self) -> io::Result<bool> {
        self.wal.has_readers_elsewhere()
    }

    /// A page that was changed by no checkpoint since the last state.
    fn overwritten_page(&self, conn: &Connection) -> Result<Option<u32>, WatchError> {
        let Some(last) = &self.last else { return Ok(None) };
        if last.stamp.proves_unchanged(&self.stamp()?) {
            return Ok(None);
        }
        let mut changed = Vec::new();
        for (page, before) in &last.pages {
            match self.digest(*page)? {
                Some(now) if now == *before => {}
                now => changed.push((*page, now.is_none())),
            }
        }
        let Some((first, _)) = changed.first().copied() else { return Ok(None) };
        // Read after the pages, so that it has all frames that may have been copied into them.
        let wal = match self.wal.state(conn) {
            // Nothing but page 1 is read for the state, and no checkpoint makes it one that SQLite refuses.
            Err(WatchError::Database(e)) if is_damage(&e) && first == 1 => return Ok(Some(first)),
            state => state?,
        };
        let Some(wal) = wal else { return Ok(None) };
        let Some(frames) = self.wal.frames_since(&last.wal, &wal)? else { return Ok(None) };
        if last.pending.is_none() && last.wal.salts != wal.salts {
            return Ok(None);
        }
        let is_unexplained = |(page, is_gone): &&(u32, bool)| {
            !last.pending.iter().chain([&frames]).any(|frames| match is_gone {
                true => frames.may_cut_off(*page),
                false => frames.hold(*page),
            })
        };
        Ok(changed.iter().find(is_unexplained).map(|(page, _)| *page))
    }

    /// Compares the file with the last state, and remembers the present one. Called before and after each
    /// checkpoint. Returns a page that was overwritten since then: one that no checkpoint has changed, or of which
    /// the file does not hold what was copied into it. The state before is kept where such a page is found, where the file is being
    /// written all the time, and after an error: a state that is older is compared as well.
    ///
    /// # Errors
    /// A file cannot be read, or the database cannot.
    pub fn observe(&mut self, conn: &Connection) -> Result<Option<u32>, WatchError> {
        for _ in 0..ATTEMPTS {
            let stamp = self.stamp()?;
            let wal = match self.wal.state(conn) {
                Err(WatchError::Database(e)) if is_damage(&e) => {
                    let page = self.overwritten_page(conn)?;
                    return page.map(Some).ok_or(WatchError::Database(e));
                }
                state => state?,
            };
            let Some(wal) = wal else { continue };
            let is_same =
                |last: &WatchedState| last.wal == wal && last.stamp.proves_unchanged(&stamp);
            if self.last.as_ref().is_some_and(is_same) {
                return Ok(None);
            }
            let copied = self.wal.pages_copied_last(&wal, PAGES_MAX / 2)?;
            let pending = self.wal.pending_frames(&wal)?;
            let pages = self.pages_to_remember(&copied, &stamp)?;
            // The pages before are compared after these are read: what is overwritten later differs from these.
            if let Some(page) = self.overwritten_page(conn)? {
                return Ok(Some(page));
            }
            let Some(now) = self.wal.state(conn)?.filter(|now| now.salts == wal.salts) else {
                continue;
            };
            if let Some(page) = self.page_unlike_copied(&copied, &pages, &now)? {
                return Ok(Some(page));
            }
            // Otherwise they may be partly of the database before and partly of the new one.
            if self.stamp()?.equals(&stamp) {
                self.last = Some(WatchedState { stamp, wal, pending, pages });
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The digests of the pages that were copied last, of those known, and of some others.
    fn pages_to_remember(
        &self,
        copied: &BTreeMap<u32, u64>,
        stamp: &Stamp,
    ) -> io::Result<BTreeMap<u32, [u8; 32]>> {
        let mut numbers: BTreeSet<u32> = copied.keys().copied().collect();
        let known = self.last.iter().flat_map(|last| last.pages.keys().copied());
        let count = u32::try_from(stamp.size_bytes / self.wal.page_bytes).unwrap_or(u32::MAX);
        let step = (count / 16).max(1) as usize;
        for page in [1, count].into_iter().chain(known).chain((1..count).step_by(step)) {
            if numbers.len() < PAGES_MAX && page > 0 {
                numbers.insert(page);
            }
        }
        let mut pages = BTreeMap::new();
        for page in numbers {
            if let Some(digest) = self.digest(page)? {
                pages.insert(page, digest);
            }
        }
        Ok(pages)
    }

    /// A page of which the file does not hold the image that was copied last. A checkpoint copies a page only
    /// if its last frame in the WAL may be copied, and if it is not after the end of the database
    /// (`walCheckpoint` in wal.c), so that others are not judged.
    fn page_unlike_copied(
        &self,
        copied: &BTreeMap<u32, u64>,
        pages: &BTreeMap<u32, [u8; 32]>,
        state: &WalState,
    ) -> io::Result<Option<u32>> {
        let Some(wal) = self.wal.open()? else { return Ok(None) };
        for (page, frame) in copied {
            // `None` where the file is too short for it.
            let found = pages.get(page).copied();
            if Some(self.wal.image_digest(&wal, *frame)?) == found {
                continue;
            }
            // Read once more, in case that a checkpoint was writing the page.
            if self.wal.was_copied(&wal, *page, *frame, state)?
                && self.digest(*page)? == found
                && self.wal.salts()? == state.salts
            {
                return Ok(Some(*page));
            }
        }
        Ok(None)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let found = self.file.metadata()?;
        let modified = found.modified()?;
        let is_recent = modified.elapsed().map_or(true, |age| age <= CLOCK_TICK_MAX);
        Ok(Stamp { modified, size_bytes: found.len(), is_recent })
    }

    /// The digest of a page; `None` if the file is too short for it.
    fn digest(&self, page: u32) -> io::Result<Option<[u8; 32]>> {
        let mut bytes = vec![0; usize::try_from(self.wal.page_bytes).unwrap_or_default()];
        match self.file.read_exact_at(&mut bytes, u64::from(page - 1) * self.wal.page_bytes) {
            Ok(()) => Ok(Some(Sha256::digest(&bytes).into())),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
                        INSERT INTO t SELECT randomblob(3000) FROM n;";

    /// A database in WAL mode of which a short copy is beside it, the program that writes it, and a watch that
    /// has seen all of it copied.
    struct WatchedDatabase {
        folder: tempfile::TempDir,
        program: Connection,
        conn: Connection,
        watch: OverwriteWatch,
    }

    impl WatchedDatabase {
        fn new() -> WatchedDatabase {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cts.db");
            let program = Connection::open(&path).unwrap();
            let create = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; \
                          CREATE TABLE t (x); CREATE TABLE small (x); INSERT INTO small VALUES (1);";
            program.execute_batch(create).unwrap();
            program.execute_batch(CHECKPOINT).unwrap();
            fs::copy(&path, folder.path().join("short.db")).unwrap();
            program.execute_batch(ROWS).unwrap();
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch(CHECKPOINT).unwrap();
            let mut watch = OverwriteWatch::new(&path, 4096).unwrap();
            assert_eq!(watch.observe(&conn).unwrap(), None);
            assert!(watch.last.is_some());
            WatchedDatabase { folder, program, conn, watch }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn overwrite(&self, content: &[u8]) {
            fs::write(self.path("cts.db"), content).unwrap();
        }
    }

    #[test]
    fn a_file_that_lost_its_end_is_noticed_while_programs_commit() {
        let mut watched = WatchedDatabase::new();
        // All pages of the short copy are in a frame.
        let update = "CREATE TABLE more (x); UPDATE small SET x = 2; INSERT INTO t VALUES (1)";
        watched.program.execute_batch(update).unwrap();
        watched.overwrite(&fs::read(watched.path("short.db")).unwrap());
        assert!(watched.watch.overwritten_page(&watched.conn).unwrap().is_some());
        assert!(watched.watch.observe(&watched.conn).unwrap().is_some());
    }

    #[test]
    fn a_page_1_that_sqlite_refuses_is_noticed_where_no_checkpoint_wrote_it() {
        let larger = {
            let other = WatchedDatabase::new();
            other.program.execute_batch(&[ROWS, ROWS, CHECKPOINT].concat()).unwrap();
            fs::read(other.path("cts.db")).unwrap()
        };
        // The last one has more pages than the WAL says.
        for content in [&[][..], &[0; 8192], &larger] {
            let mut watched = WatchedDatabase::new();
            watched.program.execute_batch("UPDATE small SET x = 2").unwrap();
            watched.overwrite(content);
            assert_eq!(watched.watch.overwritten_page(&watched.conn).unwrap(), Some(1));
            assert_eq!(watched.watch.observe(&watched.conn).unwrap(), Some(1));
        }
    }

    #[test]
    fn a_file_that_was_overwritten_within_a_tick_of_the_clock_is_noticed() {
        let mut watched = WatchedDatabase::new();
        let path = watched.path("cts.db");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut content = fs::read(&path).unwrap();
        let end = content.len() - 1;
        content[end] ^= 1;
        watched.overwrite(&content);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        // As it was when the state was remembered.
        watched.watch.last.as_mut().unwrap().stamp.is_recent = true;
        assert!(watched.watch.overwritten_page(&watched.conn).unwrap().is_some());
    }

    #[test]
    fn an_end_that_a_checkpoint_cut_off_is_not_taken_for_it() {
        let mut watched = WatchedDatabase::new();
        let before = fs::metadata(watched.path("cts.db")).unwrap().len();
        watched.program.execute_batch("DELETE FROM t; VACUUM").unwrap();
        // The WAL is not reset while it is read.
        let reader = Connection::open(watched.path("cts.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM small").unwrap();
        watched.program.execute_batch(CHECKPOINT).unwrap();
        assert!(fs::metadata(watched.path("cts.db")).unwrap().len() < before);
        watched.program.execute_batch("BEGIN; INSERT INTO small VALUES (3); COMMIT").unwrap();
        assert_eq!(watched.watch.overwritten_page(&watched.conn).unwrap(), None);
        watched.program.execute_batch(ROWS).unwrap();
        assert_eq!(watched.watch.overwritten_page(&watched.conn).unwrap(), None);
        assert_eq!(watched.watch.observe(&watched.conn).unwrap(), None);
    }

    #[test]
    fn a_wal_that_was_reset_after_the_rest_of_it_was_copied_is_judged() {
        let mut watched = WatchedDatabase::new();
        watched.program.execute_batch("UPDATE small SET x = 2").unwrap();
        assert_eq!(watched.watch.observe(&watched.conn).unwrap(), None);
        let salts = watched.watch.last.as_ref().unwrap().wal.salts;
        watched.program.execute_batch(CHECKPOINT).unwrap();
        watched.program.execute_batch("CREATE TABLE more (x)").unwrap();
        assert_ne!(watched.watch.wal.salts().unwrap(), salts, "it was reset");
        assert_eq!(watched.watch.overwritten_page(&watched.conn).unwrap(), None);
        watched.overwrite(&fs::read(watched.path("short.db")).unwrap());
        assert!(watched.watch.overwritten_page(&watched.conn).unwrap().is_some());
    }

    #[test]
    fn the_state_before_is_compared_with_after_an_error() {
        let mut watched = WatchedDatabase::new();
        let path = watched.path("cts.db-wal");
        let wal = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        watched.overwrite(&fs::read(watched.path("short.db")).unwrap());
        watched.watch.observe(&watched.conn).unwrap_err();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, wal).unwrap();
        assert!(watched.watch.overwritten_page(&watched.conn).unwrap().is_some());
    }
}
