//! Decides whether the WAL beside a database file was written for that file, before a page of it is
//! copied into the file. A backup that is put in place of a database whose `-wal` stays, or a
//! `-wal` of another database, would be mixed with it by SQLite, which does not notice.
//!
//! Only proof refuses: a copy of both files is sound, however it was made. Cheap evidence comes first:
//! the WAL, which SQLite reads to its end too; the pages that the checkpoint before it must have
//! left; the ledger; and the inner pages of all b-trees, which are one in a hundred of the pages. Only
//! a small file, or one for which the evidence is suspicious, is checked to its end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rusqlite::{Connection, ffi};

use super::at_rest::{RestingState, connect_immutable, connect_through_wal};
use super::connect::interrupt_when;
use super::damage::structural_damage;
use super::error::{extended_code, from_sqlite};
use super::file::side_file;
use super::file_error::unreadable;
use super::page_source::PageSource;
use super::page_tree::{Contradiction, walk};
use super::wal_evidence::{
    has_unusual_times, is_of_this_boot, page_unlike_checkpoint, page_unlike_copied,
};
use super::wal_file::WalFile;
use crate::error::{Cause, Error, Kind, Result};
use crate::store::{ProofDepth, WaitPolicy};

/// Size of a file in bytes up to which all of it is checked.
const SMALL_BYTES: u64 = 8 << 20;

/// What shows that a database must not be read through its WAL.
enum Mismatch {
    /// The WAL was not written for the file.
    Foreign(String),
    /// The database is damaged, in other places alone than through the WAL.
    Damaged(String),
}

/// Refuses a database that no process has open if its WAL does not belong to the file.
///
/// # Errors
/// [`Kind::Data`] if it does not; or a file cannot be read. Both files are as they were.
pub fn refuse_mismatched_wal(path: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
    let Some(before) = RestingState::of(path).filter(RestingState::has_wal) else { return Ok(()) };
    let found = find_mismatch(path, wait);
    match found {
        // Another process has opened the database meanwhile, and has examined the files itself.
        _ if RestingState::of(path) != Some(before) => Ok(()),
        Ok(Some(mismatch)) => Err(refusal(path, &mismatch)),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    }
}

fn find_mismatch(path: &Path, wait: &WaitPolicy<'_>) -> Result<Option<Mismatch>> {
    let Some(pair) = Pair::read(path, false)? else { return Ok(None) };
    if !pair.is_suspicious().map_err(|e| pair.io(&e))? {
        return Ok(None);
    }
    let Some(pair) = Pair::read(path, true)? else { return Ok(None) };
    match pair.is_suspicious().map_err(|e| pair.io(&e))? {
        true => {
            let what = format!("the check whether {} and its WAL belong together", path.display());
            wait.while_working(&what, || pair.mismatch(wait.cancelled))
        }
        false => Ok(None),
    }
}

fn refusal(path: &Path, mismatch: &Mismatch) -> Error {
    let files = ["-wal", "-shm"].map(|suffix| side_file(path, suffix).display().to_string());
    let [wal, shm] = files;
    let error = match mismatch {
        Mismatch::Foreign(evidence) => Error::new(
            Kind::Data,
            format!("the WAL beside it does not belong to this file: {evidence}"),
        )
        .remedy(format!(
            "if a backup or another file was put in place of the database, move {wal} and {shm} away, which opens it as it is, without what only that WAL holds; otherwise put back the file that the WAL was written for"
        )),
        Mismatch::Damaged(evidence) => {
            Error::new(Kind::Data, format!("is damaged: {evidence}"))
                .caused_by(Cause::Damage)
                .remedy(format!(
                    "keep a copy of the file, of {wal} and of {shm}; move these two away and restore a backup"
                ))
        }
    };
    error.at(path.display()).note("all files were left as they are")
}

/// A database file and a WAL with something in it.
struct Pair<'p> {
    path: &'p Path,
    wal: WalFile,
    /// The file alone.
    file: PageSource<'p>,
}

impl<'p> Pair<'p> {
    fn read(path: &'p Path, checked: bool) -> Result<Option<Pair<'p>>> {
        let side = side_file(path, "-wal");
        let Some(wal) = WalFile::read(&side, checked).map_err(|e| unreadable(&side, &e))? else {
            return Ok(None);
        };
        let file = PageSource::open(path, wal.page_bytes).map_err(|e| unreadable(path, &e))?;
        Ok(Some(Pair { path, wal, file }))
    }

    fn io(&self, cause: &io::Error) -> Error {
        unreadable(self.path, cause)
    }

    /// Whether the cheap evidence leaves a doubt, or the file is small.
    fn is_suspicious(&self) -> io::Result<bool> {
        let Pair { path, wal, file } = self;
        let is_small = u64::from(file.file_pages) * file.page_bytes as u64 <= SMALL_BYTES;
        Ok(is_small
            || declared_page_bytes(file)? != wal.page_bytes
            || file.file_pages > wal.pages
            || page_unlike_checkpoint(wal, file)?.is_some()
            || page_unlike_copied(path, wal, file)?.is_some()
            || has_unusual_times(path, wal, file)?
            || match walk(&file.through(wal)?) {
                Err(Contradiction::Io(error)) => return Err(error),
                found => found.is_err(),
            })
    }

    fn mismatch(&self, cancelled: &Arc<AtomicBool>) -> Result<Option<Mismatch>> {
        if let Some(what) = self.proof_in_pages().map_err(|e| self.io(&e))? {
            return Ok(Some(Mismatch::Foreign(what)));
        }
        let mut through = connect_through_wal(self.path)?;
        let mut alone = connect_immutable(self.path)?;
        for conn in [&mut through, &mut alone] {
            interrupt_when(conn, cancelled).map_err(|e| from_sqlite(self.path, &e))?;
        }
        match other_ledger(&through, &alone) {
            Some(what) => Ok(Some(Mismatch::Foreign(what))),
            None => self.damage(&through, &alone),
        }
    }

    /// What proves, without SQLite, that the WAL was not written for the file.
    fn proof_in_pages(&self) -> io::Result<Option<String>> {
        let Pair { path, wal, file } = self;
        let page_bytes = declared_page_bytes(file)?;
        if page_bytes != wal.page_bytes {
            let own = wal.page_bytes;
            return Ok(Some(format!("its pages have {own} bytes, those of the file {page_bytes}")));
        }
        if let Some(page) = page_unlike_checkpoint(wal, file)?
            && is_of_this_boot(path) == Some(true)
        {
            let what = format!("page {page} of the file is not as the last checkpoint has left it");
            return Ok(Some(what));
        }
        let what = match walk(&file.through(wal)?) {
            Ok(()) => return Ok(None),
            Err(Contradiction::Io(error)) => return Err(error),
            Err(Contradiction::Page(what)) => what,
        };
        match walk(file) {
            Ok(()) => Ok(Some(format!("read through it, {what}; the file alone is sound"))),
            Err(Contradiction::Io(error)) => Err(error),
            // A checkpoint that was interrupted leaves the file alone like that.
            Err(Contradiction::Page(_)) => Ok(None),
        }
    }

    /// Damage that an integrity check finds through the WAL, and not in the file alone.
    fn damage(&self, through: &Connection, alone: &Connection) -> Result<Option<Mismatch>> {
        let check = |conn| match structural_damage(conn, ProofDepth::Everything) {
            Err(e) if extended_code(&e) == Some(ffi::SQLITE_IOERR_SHORT_READ) => {
                Ok(vec!["a page is beyond the end of the file".to_string()])
            }
            lines => lines.map_err(|e| from_sqlite(self.path, &e)),
        };
        let found = check(through)?;
        if found.is_empty() {
            return Ok(None);
        }
        let known = check(alone)?;
        let mut others = found.into_iter().filter(|line| !known.contains(line));
        Ok(others.next().map(|line| match known.first() {
            None => Mismatch::Foreign(format!(
                "read through it, the database is damaged ({line}); the file alone is sound"
            )),
            Some(own) => {
                Mismatch::Damaged(format!("{own}; and if it is read through its WAL: {line}"))
            }
        }))
    }
}

/// Size of a page in bytes as the header of the file declares it. (sqlite.org/fileformat2.html, 1.3.2)
fn declared_page_bytes(file: &PageSource<'_>) -> io::Result<usize> {
    let mut header = [0; 18];
    file.read(1, &mut header)?;
    Ok(match usize::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        bytes => bytes,
    })
}

/// What shows that both ledgers are of different databases: the same migrations, of which each was applied
/// at another time. Several of them, because one can be applied again.
fn other_ledger(through: &Connection, alone: &Connection) -> Option<String> {
    let read = |conn: &Connection| -> rusqlite::Result<Vec<(String, String)>> {
        let sql = "SELECT name, CAST(executed_at AS TEXT) FROM migrations ORDER BY id";
        let mut statement = conn.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    let (through, alone) = (read(through).ok()?, read(alone).ok()?);
    let is_other = alone.len() > 1
        && through.len() >= alone.len()
        && alone.iter().zip(&through).all(|(one, other)| one.0 == other.0 && one.1 != other.1);
    let (name, time) = alone.first()?;
    let (_, other) = through.first()?;
    is_other.then(|| {
        format!("read through it, {name} was applied at {other}; in the file alone, at {time}")
    })
}
