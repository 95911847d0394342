//! A base: a full copy of the database, taken while programs write it, and the file with all pages that is made of it.
//!
//! The file of the database is read as it is, which may tear a page that is written at that moment. Every page that changes while the
//! copy is made is captured from the WAL too, and each captured image goes over what was read, so that the copy is the
//! database at the last capture.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::chain::Segment;
use super::folder::{ArchiveFolder, BASE, cannot_read, cannot_write};
use super::ltx::LtxWriter;
use crate::backup::PartialFile;
use crate::error::Result;
use crate::store::archive::{CommittedPages, RawDatabase};

/// Bytes that are read at a time. What is captured waits as long.
const SLICE_BYTES: u32 = 1 << 20;

/// The copy while it is made.
pub struct BaseCopy {
    database: Box<dyn RawDatabase>,
    path: PathBuf,
    copy: PartialFile,
    /// The page that is read next.
    next: u32,
    /// Whether each page, by its number, was captured.
    captured: Vec<bool>,
    slice: Vec<u8>,
}

impl BaseCopy {
    /// Begins one.
    ///
    /// # Errors
    /// The copy cannot be created.
    pub fn begin(folder: &ArchiveFolder, database: Box<dyn RawDatabase>) -> Result<BaseCopy> {
        let path = folder.file(BASE);
        let copy = PartialFile::create(&path).map_err(|e| cannot_write(&path, &e))?;
        // Segments behind the base are told by it from those of a list that was cut off.
        folder.sync().map_err(|e| cannot_write(&path, &e))?;
        let slice = vec![0; SLICE_BYTES.max(database.page_bytes()) as usize];
        Ok(BaseCopy { database, path, copy, next: 1, captured: Vec::new(), slice })
    }

    /// Size of a page in bytes.
    pub fn page_bytes(&self) -> u32 {
        self.database.page_bytes()
    }

    fn offset_of(&self, page: u32) -> u64 {
        (u64::from(page) - 1) * u64::from(self.page_bytes())
    }

    /// Copies the next pages. Returns whether all were.
    ///
    /// # Errors
    /// The database cannot be read, or the copy cannot be written.
    pub fn copy_some(&mut self) -> Result<bool> {
        let page_bytes = self.page_bytes() as usize;
        let pages = self.database.pages().map_err(|e| cannot_read(&self.path, &e))?;
        let left = u64::from(pages.saturating_add(1).saturating_sub(self.next)) * page_bytes as u64;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.slice.len());
        let mut slice = std::mem::take(&mut self.slice);
        let read = self.database.read(self.next, &mut slice[..length]);
        read.map_err(|e| cannot_read(&self.path, &e))?;
        for image in slice[..length].chunks_exact(page_bytes) {
            if !self.captured.get(self.next as usize).is_some_and(|is_captured| *is_captured) {
                let offset = self.offset_of(self.next);
                self.copy
                    .file()
                    .write_all_at(image, offset)
                    .map_err(|e| cannot_write(&self.path, &e))?;
            }
            self.next += 1;
        }
        self.slice = slice;
        Ok(self.next > pages)
    }

    /// Puts what was captured over what was copied.
    ///
    /// # Errors
    /// The WAL cannot be read, or the copy cannot be written.
    pub fn apply(&mut self, pages: &dyn CommittedPages) -> Result<()> {
        apply(self.copy.file(), pages).map_err(|e| cannot_write(&self.path, &e))?;
        if let Some(last) = pages.numbers().last() {
            let size = self.captured.len().max(*last as usize + 1);
            self.captured.resize(size, false);
        }
        for page in pages.numbers() {
            if let Some(is_captured) = self.captured.get_mut(*page as usize) {
                *is_captured = true;
            }
        }
        Ok(())
    }

    /// The copy is the database at a capture that left so many pages. Begins the file that is made of it.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn encode(self, folder: &ArchiveFolder, segment: Segment) -> Result<BaseEncoding> {
        let page_bytes = self.page_bytes();
        let length = u64::from(segment.pages) * u64::from(page_bytes);
        self.copy.file().set_len(length).map_err(|e| cannot_write(&self.path, &e))?;
        let file = folder.create(&segment)?;
        let failed = |e| cannot_write(&folder.file(segment.file()), &e);
        let out = BufWriter::new(file.file().try_clone().map_err(failed)?);
        let writer = LtxWriter::begin(out, segment.header(page_bytes)).map_err(failed)?;
        Ok(BaseEncoding { copy: self.copy, file, writer, segment, next: 1, slice: self.slice })
    }
}

/// Writes the images of pages to where they are in a database, and gives that its size.
pub fn apply(database: &File, pages: &dyn CommittedPages) -> std::io::Result<()> {
    let page_bytes = pages.page_bytes();
    database.set_len(u64::from(pages.pages()) * u64::from(page_bytes))?;
    let mut image = vec![0; page_bytes as usize];
    for (place, page) in pages.numbers().iter().enumerate() {
        pages.read(place, &mut image)?;
        database.write_all_at(&image, (u64::from(*page) - 1) * u64::from(page_bytes))?;
    }
    Ok(())
}

/// The file with all pages while it is written.
pub struct BaseEncoding {
    copy: PartialFile,
    file: PartialFile,
    writer: LtxWriter<BufWriter<File>>,
    segment: Segment,
    next: u32,
    slice: Vec<u8>,
}

impl BaseEncoding {
    /// What is listed of it once it is whole.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Writes the next pages. Returns whether all were.
    ///
    /// # Errors
    /// The copy cannot be read, or the file cannot be written.
    pub fn write_some(&mut self, folder: &ArchiveFolder) -> Result<bool> {
        let page_bytes = self.writer.header().page_bytes;
        let pages = self.segment.pages;
        let count = (self.slice.len() / page_bytes as usize).min((pages + 1 - self.next) as usize);
        let images = &mut self.slice[..count * page_bytes as usize];
        let offset = (u64::from(self.next) - 1) * u64::from(page_bytes);
        let path = folder.file(self.segment.file());
        self.copy.file().read_exact_at(images, offset).map_err(|e| cannot_read(&path, &e))?;
        for image in images.chunks_exact(page_bytes as usize) {
            self.writer.page(self.next, image).map_err(|e| cannot_write(&path, &e))?;
            self.next += 1;
        }
        Ok(self.next > pages)
    }

    /// Gives the file its name. Returns its segment, and the copy that it was made of.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self, folder: &ArchiveFolder) -> Result<(Segment, PartialFile)> {
        let mut segment = self.segment;
        let path = folder.file(segment.file());
        let (checksum, out) = self.writer.finish().map_err(|e| cannot_write(&path, &e))?;
        out.into_inner().map_err(|e| cannot_write(&path, &e.into_error()))?;
        folder.publish(&mut segment, self.file, checksum)?;
        Ok((segment, self.copy))
    }
}
