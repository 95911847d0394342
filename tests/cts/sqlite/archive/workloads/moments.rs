//! All archived moments, built from the files of the archive without cts: the layout is that of github.com/superfly/ltx.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lz4_flex::block::decompress;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::super::number;

/// Where the pages begin in a file.
const PAGES_AT: usize = 100;

/// The database at one moment after the other.
pub struct Moments {
    path: PathBuf,
    file: File,
}

impl Moments {
    pub fn new(path: PathBuf) -> Moments {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
        Moments { path, file }
    }

    /// Goes on to the moment of a segment of the archive in a folder.
    pub fn apply(&self, folder: &Path, segment: &Value) {
        let (first, last) = (number(segment, "first"), number(segment, "last"));
        let (level, first) = match segment["kind"].as_str() {
            Some("base") => (9, 1),
            _ => (number(segment, "level"), first),
        };
        let name = format!("ltx/{level}/{first:016x}-{last:016x}.ltx");
        let bytes = fs::read(folder.join(name)).unwrap();
        let word = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
        let (page_bytes, pages) = (u64::from(word(8)), u64::from(word(12)));
        assert!(bytes.starts_with(b"LTX1") && pages == number(segment, "pages"), "{segment}");
        self.file.set_len(pages * page_bytes).unwrap();
        let (mut at, mut before) = (PAGES_AT, 0);
        while word(at) > 0 {
            let (page, size) = (u64::from(word(at)), word(at + 6) as usize);
            let block = &bytes[at + 10..][..size];
            let image = decompress(block, page_bytes as usize).unwrap();
            assert!(page > before && page <= pages && image.len() as u64 == page_bytes);
            assert!(level != 9 || page == before + 1, "page {page} after {before} of a base");
            self.file.write_all_at(&image, (page - 1) * page_bytes).unwrap();
            (at, before) = (at + 10 + size, page);
        }
        assert!(level != 9 || before == pages);
    }

    /// Opens the database, which is proved to be whole.
    pub fn open(&self) -> Connection {
        let uri = format!("file:{}?immutable=1", self.path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let conn = Connection::open_with_flags(uri, flags).unwrap();
        let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        conn
    }
}
