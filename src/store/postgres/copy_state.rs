//! Whether a COPY is under way on a connection. The one who runs it says so, and the reader of the server's messages sees by
//! it which of them are rows.

use std::sync::atomic::{AtomicBool, Ordering};

/// The letter of a message with rows of a COPY.
pub const COPY_DATA: u8 = b'd';
/// The letter of a message with an error.
pub const ERROR: u8 = b'E';

/// Whether a COPY is under way on a connection: then its rows are read however long they are, and however many.
#[derive(Debug, Default)]
pub struct CopyState {
    is_under_way: AtomicBool,
    is_refused: AtomicBool,
}

impl CopyState {
    /// One begins.
    pub fn begin(&self) {
        self.is_refused.store(false, Ordering::Relaxed);
        self.is_under_way.store(true, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self) {
        self.is_under_way.store(false, Ordering::Relaxed);
    }

    /// Whether the server has sent an error since it began.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// A message of this letter begins. Returns whether it is one with rows.
    pub fn see(&self, letter: u8) -> bool {
        let is_under_way = self.is_under_way.load(Ordering::Relaxed);
        if is_under_way && letter == ERROR {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        is_under_way && letter == COPY_DATA
    }
}
