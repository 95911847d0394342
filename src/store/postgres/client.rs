//! A connection to one server, whose answers the calling thread waits for. The protocol is that of the
//! crate `tokio-postgres`; here is what bounds it: how long an answer is waited for ([`AnswerBounds`]), and how
//! much memory it may take.

mod copy_stream;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, CancelToken, Connection, SimpleQueryMessage};

use super::answer_limits::AnswerTooLong;
use super::answer_watch::{AnswerBounds, AnswerWatch, AnsweringServer, watched};
use super::copy_state::CopyState;
use super::server_address::ServerAddress;

pub use copy_stream::{CopyIn, CopyMessage};

/// How much memory the rows of an answer may take, in bytes.
const ROWS_BYTES_MAX: usize = 6 << 20;
/// What is kept of a value of a row beside its bytes: where they are.
const VALUE_BYTES: usize = size_of::<Option<std::ops::Range<usize>>>();
/// How long a cancel request, and the end of a connection, may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The server has refused the request, the connection was lost, or what came is not PostgreSQL's
    /// protocol.
    Server(tokio_postgres::Error),
    /// The server cannot be reached, or the operating system gives this process no means to wait for it.
    System(io::Error),
    /// The answer is too long.
    TooLong(AnswerTooLong),
    /// No answer has come within this time.
    NoAnswer(Duration),
    /// The work was told to stop, and the server has not ended it.
    Stopped,
    /// The connection was given up earlier.
    GivenUp,
}

impl From<tokio_postgres::Error> for ClientError {
    fn from(error: tokio_postgres::Error) -> ClientError {
        ClientError::Server(error)
    }
}

impl ClientError {
    /// Whether the server has answered with an error, after which the connection can be used again.
    fn is_answer(&self) -> bool {
        matches!(self, ClientError::Server(error) if error.as_db_error().is_some())
    }
}

/// Called with each notice of the server.
pub type NoticeHandler = Box<dyn Fn(&DbError) + Send>;
/// Reads and writes what a connection has to, and returns what the server sends unasked.
pub type Drive = Box<
    dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send,
>;

/// The reading and writing of a connection, without its type.
pub fn drive<S, T>(mut connection: Connection<S, T>) -> Drive
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::new(move |context| connection.poll_message(context))
}

/// A connection that was just opened.
pub struct OpenedConnection {
    /// Takes its requests.
    pub requests: tokio_postgres::Client,
    /// Its reading and writing.
    pub drive: Drive,
    /// Whether a COPY is under way on it.
    pub copy: Arc<CopyState>,
}

/// A connection.
pub struct Client {
    /// `None` once it was given up.
    requests: Option<tokio_postgres::Client>,
    // Dropped before the runtime that it is registered with.
    drive: Drive,
    runtime: Runtime,
    copy: Arc<CopyState>,
    server: ServerAddress,
    on_notice: NoticeHandler,
    bounds: AnswerBounds,
}

impl Client {
    /// Connects to a server within the bounds, TLS and login included.
    ///
    /// # Errors
    /// [`ClientError`]; no connection is left.
    pub fn connect(
        server: ServerAddress,
        bounds: AnswerBounds,
        on_notice: NoticeHandler,
    ) -> Result<Client, ClientError> {
        let runtime = runtime()?;
        let watch = AnswerWatch::of_connecting(&bounds);
        let opened = runtime.block_on(watched(server.open(), watch))??;
        let OpenedConnection { requests, drive, copy } = opened;
        Ok(Client { requests: Some(requests), drive, runtime, copy, server, on_notice, bounds })
    }

    /// The bounds of the answers to come.
    pub fn bounds(&mut self) -> &mut AnswerBounds {
        &mut self.bounds
    }

    /// Runs statements. Returns their rows and ends.
    ///
    /// # Errors
    /// [`ClientError`]. Where it is not an answer of the server, the connection is given up.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, ClientError> {
        let requests = self.requests.take().ok_or(ClientError::GivenUp)?;
        let done = self.wait(&requests, sql, read_all(&requests, sql));
        self.keep(requests, done)
    }

    /// Runs statements, and discards their rows.
    ///
    /// # Errors
    /// As [`Client::simple_query`].
    pub fn batch_execute(&mut self, sql: &str) -> Result<(), ClientError> {
        let requests = self.requests.take().ok_or(ClientError::GivenUp)?;
        let done = self.wait(&requests, sql, async { Ok(requests.batch_execute(sql).await?) });
        self.keep(requests, done)
    }

    /// Keeps a connection that can be used again.
    fn keep<T>(
        &mut self,
        requests: tokio_postgres::Client,
        done: Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        if done.as_ref().err().is_none_or(ClientError::is_answer) {
            self.requests = Some(requests);
        }
        done
    }

    /// Waits for an answer, within the bounds.
    fn wait<T>(
        &mut self,
        requests: &tokio_postgres::Client,
        sql: &str,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let server = AnsweringServer { address: &self.server, requests };
        let watch = AnswerWatch::of_answer(&self.bounds, server, sql);
        let (drive, on_notice) = (&mut self.drive, &self.on_notice);
        let mut answer = pin!(answer);
        let both = poll_fn(move |context| {
            let is_closed = loop {
                match drive(context) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => on_notice(&notice),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(None) => break true,
                    Poll::Pending => break false,
                }
            };
            match answer.as_mut().poll(context) {
                Poll::Pending if is_closed => Poll::Ready(Err(ClientError::GivenUp)),
                polled => polled,
            }
        });
        self.runtime.block_on(watched(both, watch))?
    }

    /// Whether it cannot be used any longer.
    pub fn is_closed(&self) -> bool {
        self.requests.as_ref().is_none_or(tokio_postgres::Client::is_closed)
    }

    /// Ends the connection. The server is told, if it can be.
    pub fn close(&mut self) {
        if self.requests.take().is_some() {
            let drive = &mut self.drive;
            let ended = poll_fn(|context| {
                loop {
                    match drive(context) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            });
            let _ = self.runtime.block_on(async { timeout(CLOSE_TIMEOUT, ended).await });
        }
        // The socket goes with what reads and writes it.
        self.drive = Box::new(|_| Poll::Ready(None));
    }

    /// Cancels from another thread what runs on this connection.
    pub fn cancel_token(&self) -> Option<CancelRequest> {
        let token = self.requests.as_ref()?.cancel_token();
        Some(CancelRequest { token, server: self.server.clone() })
    }
}

/// A running statement of a connection, which another thread can cancel.
#[derive(Clone)]
pub struct CancelRequest {
    token: CancelToken,
    server: ServerAddress,
}

impl CancelRequest {
    /// Asks the server to cancel it, on a connection of its own.
    ///
    /// # Errors
    /// [`ClientError`]. Whether something was cancelled is not known otherwise either.
    pub fn send(&self) -> Result<(), ClientError> {
        let sent = async { timeout(CANCEL_TIMEOUT, self.server.cancel(&self.token)).await };
        runtime()?.block_on(sent).map_err(|_| ClientError::NoAnswer(CANCEL_TIMEOUT))?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn runtime() -> Result<Runtime, ClientError> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::System)
}

/// Runs statements and collects the answer, within the memory that it may take.
async fn read_all(
    requests: &tokio_postgres::Client,
    sql: &str,
) -> Result<Vec<SimpleQueryMessage>, ClientError> {
    let mut answer = pin!(requests.simple_query_raw(sql).await?);
    let mut messages = Vec::new();
    let mut bytes = 0;
    while let Some(message) = poll_fn(|context| answer.as_mut().poll_next(context)).await {
        let message = match message? {
            SimpleQueryMessage::RowDescription(_) => continue,
            message => message,
        };
        bytes += memory_of(&message);
        if bytes > ROWS_BYTES_MAX {
            return Err(ClientError::TooLong(AnswerTooLong::Rows(ROWS_BYTES_MAX as u64)));
        }
        messages.push(message);
    }
    Ok(messages)
}

/// About the memory that a message takes, in bytes.
fn memory_of(message: &SimpleQueryMessage) -> usize {
    // A vector that grows has its content twice.
    let own = 2 * size_of::<SimpleQueryMessage>();
    own + match message {
        SimpleQueryMessage::Row(row) => {
            let lengths =
                (0..row.len()).map(|at| row.try_get(at).ok().flatten().map_or(0, str::len));
            lengths.map(|length| length + VALUE_BYTES).sum()
        }
        _ => 0,
    }
}
