//! LTX files, version 3: the pages that transactions have left, each compressed by itself, with an index of the pages and
//! a checksum of all. `litestream restore` reads them.
//!
//! The layout is that of github.com/superfly/ltx, v0.5.2 (`ltx.go`, `encoder.go`, `decoder.go`): a header of 100 bytes; for each
//! page its number, a flag, the size of what follows, and an LZ4 block; an empty page header; the index, a triple of page,
//! offset and size for each page; its size; a trailer of two checksums. All numbers are big-endian, but for those of the
//! index, which are LEB128. The checksum of the file is the CRC-64 of ISO 3309 over all of that with the pages
//! uncompressed; that of the database is left out, as Litestream does it.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;

use crc::{CRC_64_GO_ISO, Crc, Digest, Table};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

const MAGIC: &[u8; 4] = b"LTX1";
const HEADER_BYTES: usize = 100;
const PAGE_HEADER_BYTES: usize = 6;
const PAGE_SIZE_BYTES: usize = 4;
const TRAILER_BYTES: usize = 16;
/// Bytes of the number that tells the size of the index.
const INDEX_SIZE_BYTES: usize = 8;
/// The flag of a header that says that the database has no checksum.
const NO_DATABASE_CHECKSUM: u32 = 1 << 1;
/// The flag of a page header that says that the size of an LZ4 block follows.
const HAS_SIZE: u16 = 1;
/// The highest bit of a checksum, always set, so that none is 0.
const CHECKSUM_FLAG: u64 = 1 << 63;
/// The byte whose page is never written. (sqlite.org/fileformat2.html, 1.3 "The Lock-Byte Page")
const LOCK_BYTE: u64 = 1 << 30;

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_GO_ISO);

/// The page that holds the lock byte, which is in no file.
pub fn lock_page(page_bytes: u32) -> u32 {
    u32::try_from(LOCK_BYTE / u64::from(page_bytes.max(1))).map_or(u32::MAX, |page| page + 1)
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LtxHeader {
    /// Size of a page in bytes.
    pub page_bytes: u32,
    /// Size of the database after the last transaction, in pages.
    pub pages: u32,
    /// The number of the first transaction. A file with number 1 has all pages.
    pub first: u64,
    /// The number of the last transaction.
    pub last: u64,
    /// When the last transaction was found, in milliseconds since 1970.
    pub found_at: i64,
}

impl LtxHeader {
    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&NO_DATABASE_CHECKSUM.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.page_bytes.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.pages.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.last.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.found_at.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> io::Result<LtxHeader> {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |n| u32::from_be_bytes(*n));
        let long = |at: usize| bytes[at..].first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
        let header = LtxHeader {
            page_bytes: number(8),
            pages: number(12),
            first: long(16),
            last: long(24),
            found_at: long(32).cast_signed(),
        };
        let is_size =
            header.page_bytes.is_power_of_two() && (512..=65_536).contains(&header.page_bytes);
        match bytes.starts_with(MAGIC) && number(4) == NO_DATABASE_CHECKSUM {
            true if is_size && header.first > 0 && header.first <= header.last => Ok(header),
            _ => Err(damaged("its header is none of an LTX file as cts writes them")),
        }
    }
}

/// Writes a file.
pub struct LtxWriter<W> {
    out: W,
    header: LtxHeader,
    digest: Digest<'static, u64, Table<16>>,
    written: u64,
    index: Vec<u8>,
    last_page: u32,
    compressed: Vec<u8>,
}

impl<W: Write> LtxWriter<W> {
    /// Begins one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(out: W, header: LtxHeader) -> io::Result<LtxWriter<W>> {
        let compressed = vec![0; get_maximum_output_size(header.page_bytes as usize)];
        let (digest, index) = (CRC.digest(), Vec::new());
        let mut writer =
            LtxWriter { out, header, digest, written: 0, index, last_page: 0, compressed };
        writer.write(&header.bytes())?;
        Ok(writer)
    }

    /// What the file says of itself.
    pub fn header(&self) -> &LtxHeader {
        &self.header
    }

    /// Adds a page. Pages come in the order of their numbers, each once; that of the lock byte is left out.
    ///
    /// # Errors
    /// It cannot be written, or is not the next one.
    pub fn page(&mut self, number: u32, image: &[u8]) -> io::Result<()> {
        let is_next = number > self.last_page && number <= self.header.pages;
        if !is_next || image.len() != self.header.page_bytes as usize {
            let what =
                format!("page {number} of {} bytes after page {}", image.len(), self.last_page);
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        if number == lock_page(self.header.page_bytes) {
            return Ok(());
        }
        let offset = self.written;
        let size = compress_into(image, &mut self.compressed).map_err(io::Error::other)?;
        self.write(&number.to_be_bytes())?;
        self.write(&HAS_SIZE.to_be_bytes())?;
        self.write(&u32::try_from(size).map_err(io::Error::other)?.to_be_bytes())?;
        self.out.write_all(&self.compressed[..size])?;
        self.digest.update(image);
        self.written += size as u64;
        for value in [u64::from(number), offset, self.written - offset] {
            write_leb128(&mut self.index, value);
        }
        self.last_page = number;
        Ok(())
    }

    /// Writes what stands behind the pages. Returns the file's checksum, and where it was written to.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<(u64, W)> {
        self.write(&[0; PAGE_HEADER_BYTES])?;
        let mut index = std::mem::take(&mut self.index);
        write_leb128(&mut index, 0);
        self.write(&index)?;
        self.write(&(index.len() as u64).to_be_bytes())?;
        // The checksum of the database.
        self.write(&[0; 8])?;
        let checksum = CHECKSUM_FLAG | self.digest.finalize();
        self.out.write_all(&checksum.to_be_bytes())?;
        Ok((checksum, self.out))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.digest.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Where a page is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PagePlace {
    page: u32,
    offset: u64,
    size: usize,
}

/// Reads a file.
pub struct LtxReader {
    file: File,
    header_bytes: [u8; HEADER_BYTES],
    /// What it says of itself.
    pub header: LtxHeader,
    places: Vec<PagePlace>,
    checksum: u64,
    compressed: Vec<u8>,
}

impl LtxReader {
    /// Reads the header, the index and the trailer of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not a whole LTX file.
    pub fn open(file: File) -> io::Result<LtxReader> {
        let len = file.metadata()?.len();
        let mut header_bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut header_bytes, 0).map_err(cut_off)?;
        let header = LtxHeader::parse(&header_bytes)?;
        let mut end = [0; INDEX_SIZE_BYTES + TRAILER_BYTES];
        let end_at = len.checked_sub(end.len() as u64).ok_or_else(|| damaged("it is cut off"))?;
        file.read_exact_at(&mut end, end_at)?;
        let number = |at: usize| end[at..].first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
        let index_at = end_at.checked_sub(number(0)).filter(|at| *at >= HEADER_BYTES as u64);
        let index_at = index_at.ok_or_else(|| damaged("the size of its index is none"))?;
        let mut index = vec![0; usize::try_from(number(0)).map_err(io::Error::other)?];
        file.read_exact_at(&mut index, index_at)?;
        let places = parse_index(&index, &header, index_at)?;
        let largest = places.iter().map(|place| place.size).max().unwrap_or_default();
        Ok(LtxReader {
            file,
            header_bytes,
            header,
            places,
            checksum: number(16),
            compressed: vec![0; largest],
        })
    }

    /// The numbers of its pages, in order.
    pub fn pages(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|place| place.page)
    }

    /// The checksum that it ends with.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Reads the image of a page; `None` if the page is not in the file. `image` has the size of a page.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read_page(&mut self, page: u32, image: &mut [u8]) -> io::Result<Option<()>> {
        match self.places.binary_search_by_key(&page, |place| place.page) {
            Ok(at) => self.read_at(at, image).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Reads all pages, and calls `on_page` with each and its image. Only when it has ended well are they proved to be those that
    /// were written.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; or the error of `on_page`.
    pub fn read_all(
        &mut self,
        mut on_page: impl FnMut(u32, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut digest = CRC.digest();
        digest.update(&self.header_bytes);
        let mut image = vec![0; self.header.page_bytes as usize];
        let mut head = [0; PAGE_HEADER_BYTES + PAGE_SIZE_BYTES];
        let mut next = HEADER_BYTES as u64;
        for at in 0..self.places.len() {
            let place = self.places[at];
            if place.offset != next {
                return Err(damaged("its index leaves bytes out"));
            }
            next += place.size as u64;
            self.read_at(at, &mut image)?;
            self.file.read_exact_at(&mut head, place.offset)?;
            digest.update(&head);
            digest.update(&image);
            on_page(place.page, &image)?;
        }
        let end = self.file.metadata()?.len() - 8;
        let rest = end.checked_sub(next).ok_or_else(|| damaged("it is cut off"))?;
        let mut rest = vec![0; usize::try_from(rest).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut rest, next)?;
        digest.update(&rest);
        match CHECKSUM_FLAG | digest.finalize() == self.checksum {
            true => Ok(()),
            false => Err(damaged("its checksum is another")),
        }
    }

    fn read_at(&mut self, at: usize, image: &mut [u8]) -> io::Result<()> {
        let place = self.places[at];
        let bytes = &mut self.compressed[..place.size];
        self.file.read_exact_at(bytes, place.offset).map_err(cut_off)?;
        let (head, block) = bytes.split_at(PAGE_HEADER_BYTES + PAGE_SIZE_BYTES);
        let size = u32::try_from(block.len()).map_err(io::Error::other)?;
        let mut expected = [0; PAGE_HEADER_BYTES + PAGE_SIZE_BYTES];
        expected[..4].copy_from_slice(&place.page.to_be_bytes());
        expected[4..6].copy_from_slice(&HAS_SIZE.to_be_bytes());
        expected[6..].copy_from_slice(&size.to_be_bytes());
        let is_whole =
            head == expected && decompress_into(block, image).is_ok_and(|size| size == image.len());
        if is_whole { Ok(()) } else { Err(damaged(&format!("its page {} is damaged", place.page))) }
    }
}

fn parse_index(index: &[u8], header: &LtxHeader, end: u64) -> io::Result<Vec<PagePlace>> {
    let mut rest = index;
    let mut places: Vec<PagePlace> = Vec::new();
    let wrong = || damaged("its index is damaged");
    loop {
        let page = read_leb128(&mut rest).ok_or_else(wrong)?;
        if page == 0 {
            break;
        }
        let (offset, size) =
            (read_leb128(&mut rest).ok_or_else(wrong)?, read_leb128(&mut rest).ok_or_else(wrong)?);
        let is_inside = offset.checked_add(size).is_some_and(|after| after <= end)
            && offset >= HEADER_BYTES as u64;
        let least = (PAGE_HEADER_BYTES + PAGE_SIZE_BYTES) as u64;
        let most = least + get_maximum_output_size(header.page_bytes as usize) as u64;
        let page = u32::try_from(page).ok().filter(|page| *page <= header.pages);
        let is_next = places.last().map(|last| last.page) < page;
        match page {
            Some(page) if is_inside && is_next && (least..=most).contains(&size) => {
                let size = usize::try_from(size).map_err(io::Error::other)?;
                places.push(PagePlace { page, offset, size });
            }
            _ => return Err(wrong()),
        }
    }
    if rest.is_empty() { Ok(places) } else { Err(wrong()) }
}

fn write_leb128(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => damaged("it is cut off"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    const HEADER: LtxHeader =
        LtxHeader { page_bytes: 512, pages: 9, first: 3, last: 5, found_at: 1_764_000_000_123 };

    fn image(page: u32) -> Vec<u8> {
        (0..512).map(|at| (at * page / 7) as u8).collect()
    }

    fn written(pages: &[u32]) -> File {
        let mut writer = LtxWriter::begin(tempfile::tempfile().unwrap(), HEADER).unwrap();
        for page in pages {
            writer.page(*page, &image(*page)).unwrap();
        }
        writer.finish().unwrap().1
    }

    #[test]
    fn what_is_written_is_read_and_each_changed_byte_is_found() {
        let mut file = written(&[1, 4, 9]);
        let mut reader = LtxReader::open(file.try_clone().unwrap()).unwrap();
        assert_eq!(reader.header, HEADER);
        assert_eq!(reader.pages().collect::<Vec<_>>(), [1, 4, 9]);
        let mut seen = Vec::new();
        reader
            .read_all(|page, found| {
                seen.push(page);
                assert_eq!(found, image(page));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [1, 4, 9]);
        let mut found = vec![0; 512];
        assert!(reader.read_page(4, &mut found).unwrap().is_some() && found == image(4));
        assert!(reader.read_page(5, &mut found).unwrap().is_none());
        let len = file.seek(io::SeekFrom::End(0)).unwrap();
        for at in 0..len {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let read = LtxReader::open(file.try_clone().unwrap()).and_then(|mut reader| {
                assert!(reader.header == HEADER || reader.read_all(|_, _| Ok(())).is_err());
                reader.read_all(|_, _| Ok(()))
            });
            assert!(read.is_err(), "byte {at} of {len} may be changed");
            file.write_all_at(&byte, at).unwrap();
        }
        for short in 0..len {
            file.set_len(short).unwrap();
            let read = LtxReader::open(file.try_clone().unwrap())
                .and_then(|mut reader| reader.read_all(|_, _| Ok(())));
            assert!(read.is_err(), "{short} of {len} bytes");
            file = written(&[1, 4, 9]);
        }
    }

    #[test]
    fn pages_come_in_order_and_without_that_of_the_lock_byte() {
        let header = LtxHeader { page_bytes: 65_536, pages: 20_000, ..HEADER };
        let lock = lock_page(header.page_bytes);
        assert_eq!((lock, lock_page(4096)), (16_385, 262_145));
        let mut writer = LtxWriter::begin(Vec::new(), header).unwrap();
        let image = vec![7; 65_536];
        writer.page(lock, &image).unwrap();
        assert!(writer.index.is_empty());
        writer.page(lock + 1, &image).unwrap();
        for page in [0, 1, lock + 1, 20_001] {
            assert!(writer.page(page, &image).is_err());
        }
        assert!(writer.page(lock + 2, &image[1..]).is_err());
    }
}
