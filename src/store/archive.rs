//! What a store hands to the archive of every change, and what the archive hands back.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::WaitPolicy;

/// A place in the WAL: behind a frame that ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalPosition {
    /// The random numbers of the generation.
    pub salts: [u8; 8],
    /// Frames before the place.
    pub frames: u64,
    /// The checksums of the last of them, as they stand in the file; zeros before the first one.
    pub sums: [u8; 8],
}

/// Where a capture has ended, and when it began to look.
#[derive(Clone, Copy, Debug)]
pub struct CapturePlace {
    /// Before it looked. All that was committed by then was found.
    pub began: Instant,
    /// The position behind the last transaction.
    pub position: WalPosition,
}

/// What was committed between two positions: the last image of each page that changed.
pub trait CommittedPages: Send {
    /// Size of a page in bytes.
    fn page_bytes(&self) -> u32;

    /// Size of the database after the last transaction, in pages.
    fn pages(&self) -> u32;

    /// Transactions.
    fn commits(&self) -> u64;

    /// When the last of them was the newest one, in milliseconds since 1970.
    fn found_at(&self) -> i64;

    /// Where they were found.
    fn place(&self) -> CapturePlace;

    /// The numbers of the pages, in order.
    fn numbers(&self) -> &[u32];

    /// Reads the image of the page with this place in [`CommittedPages::numbers`].
    ///
    /// # Errors
    /// The WAL cannot be read, or the capture has given up: programs may have written over the image.
    fn read(&self, place: usize, image: &mut [u8]) -> io::Result<()>;
}

/// The file of a database, read as it is while programs write it.
pub trait RawDatabase: Send {
    /// Size of a page in bytes.
    fn page_bytes(&self) -> u32;

    /// Size of the file, in pages.
    ///
    /// # Errors
    /// The operating system does not tell it.
    fn pages(&self) -> io::Result<u32>;

    /// Reads pages from this one on. Those that are written meanwhile may be torn. What is behind the end is zeros.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, first: u32, images: &mut [u8]) -> io::Result<()>;
}

/// The live database as it was after a capture.
pub trait DatabaseMoment: Send {
    /// Reads its tables, as many as can be read without keeping the WAL for long, and lets go of it.
    ///
    /// # Errors
    /// It cannot be read, or `wait` was cancelled.
    fn read(&mut self, wait: &WaitPolicy<'_>) -> Result<()>;

    /// Proves the integrity of a database that was restored to this moment, and compares its tables with those that were read.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) where it is damaged or differs; or it cannot be read, or `wait` was cancelled.
    fn compare(&self, restored: &Path, wait: &WaitPolicy<'_>) -> Result<MomentComparison>;
}

/// How much of a restored database was compared with the live one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentComparison {
    /// All tables.
    pub tables: usize,
    /// Those that were compared, with all their rows.
    pub compared: usize,
    /// The rows of these.
    pub rows: u64,
}

/// How the archive has got on with what it was given last.
#[derive(Debug)]
pub enum Saving {
    /// All of it is on its disk.
    Done,
    /// It has not been saved for this time.
    Since(Duration),
    /// It cannot be saved.
    Failed(Error),
}

/// The archive, as the capture of a store sees it. No call waits for the archive's disk.
pub trait ArchiveSink: Send {
    /// Has the archive opened, if it is not. [`ArchiveSink::saving`] tells when it is.
    fn open(&mut self);

    /// The position up to which all is archived, if it is known; the capture tries to go on from there.
    fn position(&self) -> Option<WalPosition>;

    /// The capture begins anew: what is given from now on are the changes of this file, from before now on.
    fn begin(&mut self, file: Box<dyn RawDatabase>);

    /// Takes what was committed next. What it was given before has been saved.
    fn save(&mut self, pages: Box<dyn CommittedPages>);

    /// Whether all that it was given is saved. A failure is told once.
    fn saving(&mut self) -> Saving;

    /// Whether something is being saved.
    fn is_saving(&self) -> bool;

    /// A capture has found nothing more than what was given.
    fn found_nothing(&mut self, place: CapturePlace);

    /// Whether the live database is to be shown as it is after the next capture.
    fn wants_moment(&self) -> bool;

    /// Takes the live database as it was after what was given last.
    fn moment(&mut self, moment: Box<dyn DatabaseMoment>);

    /// What was committed since the last pages is not known: the next capture begins anew. Says why.
    fn gap(&mut self, why: Error);
}
