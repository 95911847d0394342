//! The free pages of a database file, which deleted rows have left: how many there are, and giving them back to the file
//! system bit by bit. A server does that by itself.

use std::time::Duration;

use super::WaitPolicy;
use crate::error::Result;

/// The free pages of a database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePages {
    /// Bytes of the free pages.
    pub free_bytes: u64,
    /// Bytes of all pages.
    pub total_bytes: u64,
    /// Whether they can be given back bit by bit. Otherwise they are used again, and the file shrinks only when it is rebuilt.
    pub can_be_given_back: bool,
}

/// How many free pages stay in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptFree {
    /// As many as programs soon use again, so that the file does not shrink and grow in turns.
    ForReuse,
    /// None: the file must become smaller.
    Nothing,
}

/// What one step has given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Bytes by which the database is shorter now. The file is, once a checkpoint has copied the transaction.
    pub freed_bytes: u64,
    /// Bytes that further steps can give back.
    pub left_bytes: u64,
    /// How long the write lock was held.
    pub lock_held: Duration,
    /// Whether another program held the lock, so that the next step should come later.
    pub had_to_wait: bool,
}

/// Opens what gives the free pages of a database back.
pub trait OpenFreePages {
    /// Opens it, on a connection of its own. `None` where there is nothing of the kind: on a server, and for a file that was
    /// made without it.
    ///
    /// # Errors
    /// Where the database does not exist or cannot be opened, or what ends the waiting for a lock.
    fn open_free_pages(&self, _: &WaitPolicy<'_>) -> Result<Option<Box<dyn GiveBack>>> {
        Ok(None)
    }
}

/// Gives free pages back.
pub trait GiveBack: Send {
    /// Takes one step: a transaction that holds the write lock for a few milliseconds. Nothing is done where few pages are
    /// free, or while a copy of the database is being made.
    ///
    /// # Errors
    /// Where the lock was not free within the time that `wait` allows, or the database cannot be written. Nothing is
    /// changed then.
    fn give_back(&mut self, kept: KeptFree, wait: &WaitPolicy<'_>) -> Result<GivenBack>;
}
