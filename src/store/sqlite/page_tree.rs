//! Walks the b-trees of a database as far as their inner pages, which are about one in a hundred, and
//! the free list. Finds what cannot be in a sound database: pages that are used twice or by nothing, and
//! pages that are of another kind, or hold other rows, than their parent says. Pages that the WAL holds,
//! and those whose parent it holds, are read themselves.
//!
//! (sqlite.org/fileformat2.html, 1.5 "The Freelist", 1.6 "B-tree Pages")

use std::io;

use super::page_source::PageSource;
use super::wal_file::number;

/// The type of an inner page and of a leaf of an index, and those of a table.
const INDEX_INNER: u8 = 2;
const TABLE_INNER: u8 = 5;
const INDEX_LEAF: u8 = 10;
const TABLE_LEAF: u8 = 13;
/// The first page begins with the header of the file.
const FILE_HEADER_BYTES: usize = 100;
/// Offset in that header of the first page of the free list, and of the root page that says whether
/// there are pointer map pages.
const FREE_LIST_AT: usize = 32;
const LARGEST_ROOT_AT: usize = 52;
/// Offset of the number of bytes at the end of each page that are not used.
const RESERVED_AT: usize = 20;
/// Bytes of an entry of a pointer map. (sqlite.org/fileformat2.html, 1.8 "Pointer Map or Ptrmap Pages")
const POINTER_BYTES: usize = 5;
/// Pages of the schema that are read at most.
const SCHEMA_PAGES_MAX: usize = 10_000;
/// Levels of a b-tree at most. (`BTCURSOR_MAX_DEPTH` in btreeInt.h)
const LEVELS_MAX: u32 = 20;
/// The byte that SQLite locks; its page is never used. (sqlite.org/fileformat2.html, 1.4)
const LOCK_BYTE: u64 = 0x4000_0000;
/// Up to this number of pages, the first byte of an overflow page, which is that of a page number, is 0.
const PAGES_WITH_ZERO_BYTE: u32 = 1 << 24;
/// Pages that nothing is known to use of which the first byte is read, besides those in the WAL.
const UNUSED_READ_MAX: u32 = 2000;
/// Leaves that are read, of those in the WAL and of those whose parent is in it; as many of each.
const LEAVES_READ_MAX: u32 = 2000;

/// What cannot be in a sound database, or why it could not be looked for.
#[derive(Debug)]
pub enum Contradiction {
    /// A sentence about a page.
    Page(String),
    /// A page cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Contradiction {
    fn from(error: io::Error) -> Contradiction {
        Contradiction::Io(error)
    }
}

type Result<T> = std::result::Result<T, Contradiction>;

/// The root page of a table or index.
struct TreeRoot {
    /// The table or index, as a message names it.
    name: String,
    /// Its number.
    page: u32,
}

/// The roots of all tables and indexes, the schema's own first.
fn roots(source: &PageSource<'_>) -> Result<Vec<TreeRoot>> {
    let mut roots = vec![TreeRoot { name: "the schema".into(), page: 1 }];
    let mut pages = vec![(1, 0)];
    while let Some((number, depth)) = pages.pop() {
        let mut image = vec![0; source.page_bytes];
        source.read(number, &mut image)?;
        let page = TreePage::of(number, &image);
        match page.kind() {
            TABLE_INNER if depth < LEVELS_MAX && pages.len() < SCHEMA_PAGES_MAX => {
                pages.extend((0..=page.cells()).map(|cell| (page.child(cell), depth + 1)));
            }
            TABLE_LEAF => {
                for cell in 0..page.cells() {
                    roots.extend(
                        page.root_in(cell).ok_or_else(|| other_kind(number, "the schema"))?,
                    );
                }
            }
            _ => return Err(other_kind(number, "the schema")),
        }
    }
    Ok(roots)
}

/// The row ids that may be below a page: above the first, up to the second.
type RowIds = (i64, i64);

struct Walk<'s> {
    source: &'s PageSource<'s>,
    /// A bit for each page that is used.
    used: Vec<u64>,
    /// Leaves that were read: in the WAL, and below a page in the WAL.
    leaves_read: (u32, u32),
}

/// Where in its tree a page is.
#[derive(Clone, Copy)]
struct Place<'r> {
    root: &'r TreeRoot,
    page: u32,
    /// Levels below it.
    height: u32,
    rows: RowIds,
    is_table: bool,
    /// Whether its parent is in the WAL.
    is_of_wal: bool,
}

/// Walks the trees of all tables and indexes and the free list.
///
/// # Errors
/// With the first contradiction found.
pub fn walk(source: &PageSource<'_>) -> Result<()> {
    let roots = roots(source)?;
    let words = source.pages() as usize / 64 + 1;
    let mut walk = Walk { source, used: vec![0; words], leaves_read: (0, 0) };
    let mut first = vec![0; source.page_bytes];
    source.read(1, &mut first)?;
    for root in &roots {
        walk.tree(root)?;
    }
    walk.free_list(number(&first, FREE_LIST_AT))?;
    if number(&first, LARGEST_ROOT_AT) > 0 {
        let reserved = first.get(RESERVED_AT).copied().unwrap_or_default();
        walk.mark_pointer_maps(source.page_bytes.saturating_sub(reserved.into()));
    }
    walk.unused()
}

impl Walk<'_> {
    fn read(&self, page: u32) -> Result<Vec<u8>> {
        let mut image = vec![0; self.source.page_bytes];
        match self.source.is_absent(page) {
            true => Err(Contradiction::Page(format!(
                "page {page} is neither in the file nor in the WAL"
            ))),
            false => Ok(self.source.read(page, &mut image).map(|()| image)?),
        }
    }

    fn mark(&mut self, page: u32, user: &str) -> Result<()> {
        let (word, bit) = (page as usize / 64, 1 << (page % 64));
        match self.used.get_mut(word) {
            Some(used) if page > 0 && page <= self.source.pages() && *used & bit == 0 => {
                *used |= bit;
                Ok(())
            }
            Some(used) if page > 0 && page <= self.source.pages() && *used & bit != 0 => {
                Err(Contradiction::Page(format!("page {page} of {user} is used twice")))
            }
            _ => {
                Err(Contradiction::Page(format!("{user} refers to page {page}, which is no page")))
            }
        }
    }

    /// Marks the pages that say for each page after them what refers to it: the second one, and then one for as many pages
    /// as it has entries for. The page that SQLite locks is left out. (`ptrmapPageno` in btree.c)
    fn mark_pointer_maps(&mut self, usable_bytes: usize) {
        let lock_page = LOCK_BYTE / self.source.page_bytes as u64 + 1;
        let distance = usable_bytes / POINTER_BYTES + 1;
        for map in (2..=self.source.pages()).step_by(distance) {
            let map = map + u32::from(u64::from(map) == lock_page);
            if let Some(used) = self.used.get_mut(map as usize / 64) {
                *used |= 1 << (map % 64);
            }
        }
    }

    fn is_used(&self, page: u32) -> bool {
        self.used.get(page as usize / 64).is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    fn tree(&mut self, root: &TreeRoot) -> Result<()> {
        let image = self.read(root.page)?;
        let is_table = matches!(TreePage::of(root.page, &image).kind(), TABLE_INNER | TABLE_LEAF);
        let height = self.height(root)?;
        let rows = (i64::MIN, i64::MAX);
        let is_of_wal = self.source.is_in_wal(root.page);
        self.visit(Place { root, page: root.page, height, rows, is_table, is_of_wal })
    }

    /// The number of levels below the root, all the way down the first children.
    fn height(&self, root: &TreeRoot) -> Result<u32> {
        let mut page = root.page;
        for height in 0..LEVELS_MAX {
            let image = self.read(page)?;
            let view = TreePage::of(page, &image);
            match view.kind() {
                TABLE_INNER | INDEX_INNER => page = view.child(0),
                TABLE_LEAF | INDEX_LEAF => return Ok(height),
                _ => return Err(other_kind(page, &root.name)),
            }
        }
        Err(other_kind(page, &root.name))
    }

    fn visit(&mut self, place: Place<'_>) -> Result<()> {
        self.mark(place.page, &place.root.name)?;
        if place.height == 0 {
            return self.leaf(place);
        }
        let image = self.read(place.page)?;
        let page = TreePage::of(place.page, &image);
        if page.kind() != if place.is_table { TABLE_INNER } else { INDEX_INNER } {
            return Err(other_kind(place.page, &place.root.name));
        }
        let is_of_wal = self.source.is_in_wal(place.page);
        let mut after = place.rows.0;
        for cell in 0..=page.cells() {
            let key = match place.is_table && cell < page.cells() {
                true => page.key(cell),
                false => place.rows.1,
            };
            if place.is_table && (key < after || key > place.rows.1) {
                return Err(other_rows(place));
            }
            let rows = if place.is_table { (after, key) } else { place.rows };
            let height = place.height - 1;
            let child = page.child(cell);
            self.visit(Place { page: child, height, rows, is_of_wal, ..place })?;
            after = key;
        }
        Ok(())
    }

    fn leaf(&mut self, place: Place<'_>) -> Result<()> {
        if self.source.is_absent(place.page) {
            let name = &place.root.name;
            let what =
                format!("page {} of {name} is neither in the file nor in the WAL", place.page);
            return Err(Contradiction::Page(what));
        }
        let read = match self.source.is_in_wal(place.page) {
            true => &mut self.leaves_read.0,
            false if place.is_of_wal => &mut self.leaves_read.1,
            false => return Ok(()),
        };
        *read += 1;
        if *read > LEAVES_READ_MAX {
            return Ok(());
        }
        let image = self.read(place.page)?;
        let page = TreePage::of(place.page, &image);
        if page.kind() != if place.is_table { TABLE_LEAF } else { INDEX_LEAF } {
            return Err(other_kind(place.page, &place.root.name));
        }
        let is_within = |cell| (place.rows.0..=place.rows.1).contains(&page.row_id(cell));
        let is_sound = page.cells() == 0 || is_within(0) && is_within(page.cells() - 1);
        if place.is_table && !is_sound { Err(other_rows(place)) } else { Ok(()) }
    }

    fn free_list(&mut self, first: u32) -> Result<()> {
        let mut trunk = first;
        while trunk > 0 {
            self.mark(trunk, "the free list")?;
            let image = self.read(trunk)?;
            for position in 0..number(&image, 4).min(self.source.page_bytes as u32 / 4) as usize {
                self.mark(number(&image, 8 + 4 * position), "the free list")?;
            }
            trunk = number(&image, 0);
        }
        Ok(())
    }

    /// What no tree and no list uses must be an overflow page, which looks unlike the page of a tree.
    fn unused(&self) -> Result<()> {
        let pages = self.source.pages();
        let lock_page = LOCK_BYTE / self.source.page_bytes as u64 + 1;
        if pages >= PAGES_WITH_ZERO_BYTE {
            return Ok(());
        }
        let mut read = 0;
        for page in (1..=pages).filter(|page| !self.is_used(*page)) {
            if u64::from(page) == lock_page
                || !self.source.is_in_wal(page) && read >= UNUSED_READ_MAX
            {
                continue;
            }
            read += 1;
            let mut first = [0];
            if self.source.is_absent(page) {
                let what = format!("page {page} is neither in the file nor in the WAL");
                return Err(Contradiction::Page(what));
            }
            self.source.read(page, &mut first)?;
            if matches!(first[0], INDEX_INNER | TABLE_INNER | INDEX_LEAF | TABLE_LEAF) {
                let what = format!("page {page} belongs to no table and no index");
                return Err(Contradiction::Page(what));
            }
        }
        Ok(())
    }
}

fn other_kind(page: u32, name: &str) -> Contradiction {
    Contradiction::Page(format!("{name} refers to page {page}, which is none of its pages"))
}

fn other_rows(place: Place<'_>) -> Contradiction {
    let Place { page, root, .. } = place;
    Contradiction::Page(format!("page {page} holds other rows than {} expects there", root.name))
}

/// Bytes of a value with this type in a record. (sqlite.org/fileformat2.html, 2.1)
fn content_bytes(kind: i64) -> i64 {
    match kind {
        0..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        8..=11 => 0,
        _ => (kind - 12) / 2,
    }
}

/// A page of a b-tree. What is not there reads as 0.
struct TreePage<'p> {
    image: &'p [u8],
    /// Offset of the header of the b-tree page.
    header: usize,
}

impl<'p> TreePage<'p> {
    fn of(number: u32, image: &'p [u8]) -> TreePage<'p> {
        TreePage { image, header: if number == 1 { FILE_HEADER_BYTES } else { 0 } }
    }

    fn kind(&self) -> u8 {
        self.image.get(self.header).copied().unwrap_or(0)
    }

    fn short(&self, at: usize) -> usize {
        let bytes = self.image.get(at..).and_then(|rest| rest.first_chunk::<2>());
        bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
    }

    /// Number of cells; no more than fit in the page.
    fn cells(&self) -> usize {
        self.short(self.header + 3).min(self.image.len() / 4)
    }

    fn cell(&self, position: usize) -> usize {
        let header_bytes = if matches!(self.kind(), TABLE_INNER | INDEX_INNER) { 12 } else { 8 };
        self.short(self.header + header_bytes + 2 * position)
    }

    /// The child before a cell; after the last one, the right-most.
    fn child(&self, cell: usize) -> u32 {
        let at = if cell < self.cells() { self.cell(cell) } else { self.header + 8 };
        number(self.image, at)
    }

    /// The key of a cell of an inner page of a table.
    fn key(&self, cell: usize) -> i64 {
        self.varint(self.cell(cell) + 4).0
    }

    /// The row id of a cell of a leaf of a table, after the size of its content.
    fn row_id(&self, cell: usize) -> i64 {
        let at = self.cell(cell);
        let (_, size_bytes) = self.varint(at);
        self.varint(at + size_bytes).0
    }

    /// The table or index that a row of the schema describes: its columns are type, name, table and root
    /// page. The inner `None` is a view or a trigger. `None` if the row is not like that.
    fn root_in(&self, cell: usize) -> Option<Option<TreeRoot>> {
        let mut at = self.cell(cell);
        for _ in 0..2 {
            at += self.varint(at).1;
        }
        let (header_bytes, mut next) = self.varint(at);
        let mut value = at + usize::try_from(header_bytes).ok()?;
        next += at;
        let mut columns: [(i64, std::ops::Range<usize>); 4] = Default::default();
        for column in &mut columns {
            let (kind, bytes) = self.varint(next);
            next += bytes;
            let length = usize::try_from(content_bytes(kind)).ok()?;
            *column = (kind, value..value.checked_add(length)?);
            value += length;
        }
        let [(_, of_type), (_, of_name), _, (kind, of_page)] = columns;
        let text = |range| Some(String::from_utf8_lossy(self.image.get(range)?).into_owned());
        let name = format!("{} {}", text(of_type)?, text(of_name)?);
        let bytes = self.image.get(of_page)?;
        let page = match kind {
            9 => 1,
            _ => bytes.iter().fold(0, |page, byte| page << 8 | u64::from(*byte)),
        };
        let page = u32::try_from(page).ok()?;
        Some((page > 0).then_some(TreeRoot { name, page }))
    }

    /// A number of variable length, and its length. (sqlite.org/fileformat2.html, 1.6)
    fn varint(&self, at: usize) -> (i64, usize) {
        let mut value: u64 = 0;
        for length in 0..8 {
            let byte = self.image.get(at + length).copied().unwrap_or(0);
            value = value << 7 | u64::from(byte & 0x7f);
            if byte < 0x80 {
                return (value.cast_signed(), length + 1);
            }
        }
        let last = self.image.get(at + 8).copied().unwrap_or(0);
        ((value << 8 | u64::from(last)).cast_signed(), 9)
    }
}
