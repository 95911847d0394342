//! The rows of a COPY, within the transaction that is open: no limit of it on the time of a statement ends one.

use super::Session;
use crate::error::Result;
use crate::store::postgres::client::{CopyIn, CopyMessage};
use crate::store::postgres::error;
use crate::store::postgres::url::Password;

/// What is written to a COPY.
pub struct CopyFeed<'s> {
    copy: CopyIn<'s>,
    password: Option<&'s Password>,
}

impl CopyFeed<'_> {
    /// Sends a part of it, as soon as the server has taken what came before.
    ///
    /// # Errors
    /// If the server has refused a row, the connection is lost, or the work was told to stop. The transaction has to be
    /// rolled back.
    pub fn send(&mut self, part: Vec<u8>) -> Result<()> {
        self.copy.send(part).map_err(|e| error::from_client(&e, self.password))
    }
}

impl Session {
    /// Runs a `COPY … TO STDOUT`, and calls `on_messages` with its messages as they come, many at a time.
    ///
    /// # Errors
    /// If the server refuses it, the connection is lost, the work is told to stop, or with the error of `on_messages`.
    /// The transaction has to be rolled back; unless all rows had come, the connection was ended, which does it.
    pub fn copy_out(
        &mut self,
        sql: &str,
        on_messages: &mut dyn FnMut(&[CopyMessage]) -> Result<()>,
    ) -> Result<()> {
        self.without_statement_timeout(|session| {
            session.wait_as_limited();
            let password = session.password.as_ref();
            let fault = |e| error::from_client(&e, password);
            let mut copy = session.client.copy_out(sql).map_err(fault)?;
            let mut messages = Vec::new();
            let mut next = || {
                copy.read(&mut messages).map_err(fault)?;
                on_messages(&messages).map(|()| !messages.is_empty())
            };
            let done = loop {
                match next() {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            copy.give_up();
            done
        })
    }

    /// Runs a `COPY … FROM STDIN` of what `feed` sends. Returns how many rows the server has stored.
    ///
    /// # Errors
    /// If the server refuses it or a row, the connection is lost, the work is told to stop, or with the error of `feed`.
    /// The transaction has to be rolled back.
    pub fn copy_in(
        &mut self,
        sql: &str,
        feed: &mut dyn FnMut(&mut CopyFeed<'_>) -> Result<()>,
    ) -> Result<u64> {
        self.without_statement_timeout(|session| {
            session.wait_as_limited();
            let password = session.password.as_ref();
            let fault = |e| error::from_client(&e, password);
            let copy = session.client.copy_in(sql).map_err(fault)?;
            let mut copy_feed = CopyFeed { copy, password };
            feed(&mut copy_feed)?;
            copy_feed.copy.finish().map_err(fault)
        })
    }
}
