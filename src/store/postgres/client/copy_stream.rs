//! The rows of a COPY, in both directions, in parts: neither side has more of them in memory than a few parts, and the
//! faster one waits for the other. Each part is waited for within the bounds of an answer, all of them as long as they
//! take.
//!
//! The library runs a COPY by a prepared statement, whose name it chooses. Behind a pooler in transaction mode another
//! program may have left a statement of that name on the connection of the server; then the next name is tried.

use std::future::{Future, poll_fn};
use std::io::Cursor;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CopyInSink, CopyOutStream, Statement};

use super::{Client, ClientError};

/// Rows that are taken from the connection before they are handed on, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Names of statements that are tried. One that other programs use is free after some hundred.
const NAMES_MAX: usize = 10_000;

/// What a message of a COPY contains: on PostgreSQL, one row.
pub type CopyMessage = Bytes;

/// A COPY to this program.
pub struct CopyOut<'c> {
    client: &'c mut Client,
    stream: Pin<Box<CopyOutStream>>,
    /// Closed after the COPY.
    _statement: Statement,
    is_complete: bool,
}

/// A COPY from this program. Dropped before [`CopyIn::finish`], it fails on the server, which aborts the transaction.
pub struct CopyIn<'c> {
    client: &'c mut Client,
    sink: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>,
    /// Closed after the COPY.
    _statement: Statement,
}

impl Client {
    /// Begins a `COPY … TO STDOUT` in the transaction that is open.
    ///
    /// # Errors
    /// [`ClientError`]. The transaction is aborted; where it is not an answer of the server, the connection is given up.
    pub fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>, ClientError> {
        let requests = self.requests.take().ok_or(ClientError::GivenUp)?;
        let copy = Arc::clone(&self.copy);
        let begun = self.wait(&requests, sql, async {
            let statement = prepare(&requests, sql).await?;
            copy.begin();
            Ok((Box::pin(requests.copy_out(&statement).await?), statement))
        });
        let (stream, statement) = self.keep_copying(requests, begun)?;
        Ok(CopyOut { client: self, stream, _statement: statement, is_complete: false })
    }

    /// Begins a `COPY … FROM STDIN` in the transaction that is open.
    ///
    /// # Errors
    /// As [`Client::copy_out`].
    pub fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, ClientError> {
        let requests = self.requests.take().ok_or(ClientError::GivenUp)?;
        let copy = Arc::clone(&self.copy);
        let begun = self.wait(&requests, sql, async {
            let statement = prepare(&requests, sql).await?;
            copy.begin();
            Ok((Box::pin(requests.copy_in(&statement).await?), statement))
        });
        let (sink, statement) = self.keep_copying(requests, begun)?;
        Ok(CopyIn { client: self, sink, _statement: statement })
    }

    /// Keeps a connection on which a COPY has begun, or that can be used again.
    fn keep_copying<T>(
        &mut self,
        requests: tokio_postgres::Client,
        begun: Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.keep(requests, begun).inspect_err(|_| self.copy.end())
    }

    /// Waits for the next step of the COPY that is under way.
    fn wait_copying<T>(
        &mut self,
        step: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let requests = self.requests.take().ok_or(ClientError::GivenUp)?;
        let done = self.wait(&requests, "", step);
        self.keep(requests, done)
    }

    /// Ends a COPY that never has to wait, when the work is told to stop.
    fn check_stop(&self) -> Result<(), ClientError> {
        match self.bounds.stop.load(Ordering::Relaxed) {
            true => Err(ClientError::Stopped),
            false => Ok(()),
        }
    }
}

impl CopyOut<'_> {
    /// Waits for the next rows. None are left when `messages` stays empty.
    ///
    /// # Errors
    /// [`ClientError`], after which the COPY has ended as [`Client::copy_out`] says, or is to be given up.
    pub fn read(&mut self, messages: &mut Vec<CopyMessage>) -> Result<(), ClientError> {
        messages.clear();
        if self.is_complete {
            return Ok(());
        }
        self.client.check_stop()?;
        let (stream, mut bytes) = (&mut self.stream, 0);
        let read = self.client.wait_copying(poll_fn(|context| {
            loop {
                match stream.as_mut().poll_next(context) {
                    Poll::Ready(Some(Ok(message))) => {
                        bytes += message.len();
                        messages.push(message);
                        if bytes >= BATCH_BYTES {
                            return Poll::Ready(Ok(false));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(None) => return Poll::Ready(Ok(true)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        self.is_complete = *read.as_ref().unwrap_or(&true);
        read.map(|_| ())
    }

    /// Ends the connection, unless the COPY has ended: the server would send all other rows before it answers anything
    /// else. A request to cancel is no way out behind PgBouncer 1.18, which ends itself when a program that has sent
    /// one goes away early.
    pub fn give_up(self) {
        if !self.is_complete {
            self.client.close();
        }
    }
}

impl Drop for CopyOut<'_> {
    fn drop(&mut self) {
        self.client.copy.end();
    }
}

impl CopyIn<'_> {
    /// Sends a part of the rows, as soon as the server has taken those before.
    ///
    /// # Errors
    /// [`ClientError`], as soon as the server has refused a row among others. The transaction is aborted; where it is
    /// not an answer of the server, the connection is given up, unless the work was told to stop.
    pub fn send(&mut self, part: Vec<u8>) -> Result<(), ClientError> {
        self.client.check_stop()?;
        let sink = &mut self.sink;
        self.client.wait_copying(async {
            poll_fn(|context| sink.as_mut().poll_ready(context)).await?;
            sink.as_mut().start_send(Cursor::new(part))?;
            once_again().await;
            Ok(())
        })?;
        match self.client.copy.is_refused() {
            // The end of the rows brings the error.
            true => self.end().map(|_| ()),
            false => Ok(()),
        }
    }

    /// Ends the rows. Returns the number of those that the server has stored.
    ///
    /// # Errors
    /// As [`CopyIn::send`].
    pub fn finish(mut self) -> Result<u64, ClientError> {
        self.client.check_stop()?;
        self.end()
    }

    fn end(&mut self) -> Result<u64, ClientError> {
        let sink = &mut self.sink;
        self.client.wait_copying(async {
            Ok(poll_fn(|context| sink.as_mut().poll_finish(context)).await?)
        })
    }
}

impl Drop for CopyIn<'_> {
    fn drop(&mut self) {
        self.client.copy.end();
    }
}

/// Lets the connection write what it was just given.
fn once_again() -> impl Future<Output = ()> {
    let mut has_waited = false;
    poll_fn(move |context| {
        if mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Prepares a COPY under a name that no other statement of the connection has.
async fn prepare(requests: &tokio_postgres::Client, sql: &str) -> Result<Statement, ClientError> {
    requests.batch_execute("SAVEPOINT cts_copy").await?;
    let mut names = 0;
    loop {
        match requests.prepare(sql).await {
            Ok(statement) => {
                requests.batch_execute("RELEASE SAVEPOINT cts_copy").await?;
                return Ok(statement);
            }
            Err(error)
                if error.code() == Some(&SqlState::DUPLICATE_PSTATEMENT) && names < NAMES_MAX =>
            {
                names += 1;
                requests.batch_execute("ROLLBACK TO SAVEPOINT cts_copy").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
