//! The pages of a database file, alone or as its WAL shows them. Only for a database that no connection
//! of this process has open: the file is closed again, which would release locks (fcntl(2)).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::wal_file::WalFile;
use crate::system::file_handle::open_regular;

/// The pages of a database.
pub struct PageSource<'w> {
    file: File,
    wal: Option<&'w WalFile>,
    /// Size of a page in bytes.
    pub page_bytes: usize,
    /// Pages in the file.
    pub file_pages: u32,
}

impl<'w> PageSource<'w> {
    /// The file of a database, with pages of this size.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, page_bytes: usize) -> io::Result<PageSource<'w>> {
        let file = open_regular(path, OpenOptions::new().read(true))?;
        let file_pages = file.metadata()?.len() / page_bytes as u64;
        let file_pages = u32::try_from(file_pages).unwrap_or(u32::MAX);
        Ok(PageSource { file, wal: None, page_bytes, file_pages })
    }

    /// The same file through a WAL.
    ///
    /// # Errors
    /// The file cannot be opened once more.
    pub fn through(&self, wal: &'w WalFile) -> io::Result<PageSource<'w>> {
        let file = self.file.try_clone()?;
        Ok(PageSource { file, wal: Some(wal), ..*self })
    }

    /// Pages in the database.
    pub fn pages(&self) -> u32 {
        self.wal.map_or(self.file_pages, |wal| wal.pages)
    }

    /// Whether the WAL holds the page.
    pub fn is_in_wal(&self, page: u32) -> bool {
        self.wal.is_some_and(|wal| wal.last_frames.contains_key(&page))
    }

    /// Whether neither the WAL nor the file holds the page.
    pub fn is_absent(&self, page: u32) -> bool {
        page > self.file_pages && !self.is_in_wal(page)
    }

    /// Reads a page, or the first bytes of one; zeros where neither the WAL nor the file holds them.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, page: u32, image: &mut [u8]) -> io::Result<()> {
        match self.wal.and_then(|wal| Some((wal, wal.last_frames.get(&page)?))) {
            Some((wal, frame)) => wal.read_image(*frame, image),
            None => {
                let offset = u64::from(page.saturating_sub(1)) * self.page_bytes as u64;
                match self.file.read_exact_at(image, offset) {
                    // As SQLite reads a page that the end of the file cuts off, or that is behind it.
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                        image.fill(0);
                        self.file.read_at(image, offset).map(|_| ())
                    }
                    read => read,
                }
            }
        }
    }
}
