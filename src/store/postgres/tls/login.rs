//! Watches the login of a connection: which password a server asks for is seen here before it is
//! answered. The library answers every request by itself, also for the password in clear text,
//! whoever sends it. The negotiation of TLS, which comes before, is here for that reason too.
//! (PostgreSQL documentation, "Message Flow", "SSL Session Encryption")

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::config::SslMode as Negotiation;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::postgres::answer_limits::{
    AUTHENTICATION, AnswerTooLong, MessageHead, MessageMeter,
};
use crate::store::postgres::copy_state::CopyState;
use crate::store::postgres::url::{AuthMethod, AuthMethods, TlsStart};

/// The request for TLS: its length and its code. (PostgreSQL documentation, "Message Formats")
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

type TlsOf<S> = <<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect as TlsConnect<S>>::Stream;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a login is not gone through with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// The server does not support TLS, which the settings require.
    NoTls,
    /// The server asks for a login that is not accepted.
    Method(AuthMethod),
}

impl fmt::Display for LoginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginFault::NoTls => f.write_str("the server does not support TLS"),
            LoginFault::Method(method) => write!(f, "the server {}", method.request()),
        }
    }
}

impl std::error::Error for LoginFault {}

/// Opens connections whose login is watched.
#[derive(Clone)]
pub struct LoginWatch {
    /// TLS, where it is used.
    pub tls: MakeRustlsConnect,
    /// Whether it is used.
    pub negotiation: Negotiation,
    /// How it begins.
    pub start: TlsStart,
    /// The accepted logins of a connection with TLS, and of one without.
    pub with_tls: AuthMethods,
    /// The accepted logins of a connection without TLS.
    pub without_tls: AuthMethods,
    /// Whether a COPY is under way on the connection.
    pub copy: Arc<CopyState>,
}

impl LoginWatch {
    /// The watch over the login to one host.
    pub fn of_host(&self, host: &str) -> HostLogin {
        HostLogin { watch: self.clone(), host: host.to_string() }
    }
}

/// A [`LoginWatch`] for one host.
pub struct HostLogin {
    watch: LoginWatch,
    host: String,
}

/// A connection of the operating system.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for S {}

impl<S: Socket> MakeTlsConnect<S> for LoginWatch {
    type Stream = WatchedStream<S>;
    type TlsConnect = HostLogin;
    type Error = Failure;

    fn make_tls_connect(&mut self, host: &str) -> Result<HostLogin, Failure> {
        Ok(self.of_host(host))
    }
}

impl<S: Socket> TlsConnect<S> for HostLogin {
    type Stream = WatchedStream<S>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<WatchedStream<S>, Failure>> + Send>>;

    fn connect(self, socket: S) -> Self::Future {
        Box::pin(self.negotiate(socket))
    }
}

impl HostLogin {
    async fn negotiate<S: Socket>(mut self, mut socket: S) -> Result<WatchedStream<S>, Failure> {
        let copy = self.watch.copy;
        let plain = |socket, accepted| {
            WatchedStream::new(ByteStream::Plain(socket), accepted, Arc::clone(&copy))
        };
        if self.watch.negotiation == Negotiation::Disable {
            return Ok(plain(socket, self.watch.without_tls));
        }
        if self.watch.start == TlsStart::Asked {
            socket.write_all(&TLS_REQUEST).await?;
            match (socket.read_u8().await?, self.watch.negotiation) {
                (b'S', _) => {}
                (_, Negotiation::Prefer) => return Ok(plain(socket, self.watch.without_tls)),
                _ => return Err(LoginFault::NoTls.into()),
            }
        }
        let tls = MakeTlsConnect::<S>::make_tls_connect(&mut self.watch.tls, &self.host)?;
        let stream = ByteStream::Tls(Box::new(tls.connect(socket).await?));
        Ok(WatchedStream::new(stream, self.watch.with_tls, copy))
    }
}

enum ByteStream<S: Socket> {
    Plain(S),
    Tls(Box<TlsOf<S>>),
}

/// Reads and writes.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A connection whose login is watched, and whose messages have limits.
pub struct WatchedStream<S: Socket> {
    stream: ByteStream<S>,
    meter: MessageMeter,
    /// What has come of the login; `None` once it is over.
    login: Option<Login>,
}

impl<S: Socket> WatchedStream<S> {
    /// Watches a connection whose next byte is the first of a message.
    fn new(stream: ByteStream<S>, accepted: AuthMethods, copy: Arc<CopyState>) -> WatchedStream<S> {
        let meter = MessageMeter::new(copy);
        WatchedStream { stream, meter, login: Some(Login::new(accepted)) }
    }

    fn stream(&mut self) -> Pin<&mut (dyn Duplex + Send)> {
        match &mut self.stream {
            ByteStream::Plain(socket) => Pin::new(socket),
            ByteStream::Tls(stream) => Pin::new(&mut **stream),
        }
    }

    /// Looks at what has come.
    fn see(&mut self, bytes: &[u8]) -> Result<(), StreamFault> {
        let login = &mut self.login;
        self.meter.read(bytes, |head| {
            if let Some(watched) = login
                && watched.see(head)? == LoginStep::Over
            {
                *login = None;
            }
            Ok(())
        })
    }
}

/// Why nothing more is read.
enum StreamFault {
    Login(LoginFault),
    TooLong(AnswerTooLong),
}

impl From<LoginFault> for StreamFault {
    fn from(fault: LoginFault) -> StreamFault {
        StreamFault::Login(fault)
    }
}

impl From<AnswerTooLong> for StreamFault {
    fn from(fault: AnswerTooLong) -> StreamFault {
        StreamFault::TooLong(fault)
    }
}

impl From<StreamFault> for io::Error {
    fn from(fault: StreamFault) -> io::Error {
        match fault {
            StreamFault::Login(fault) => io::Error::new(io::ErrorKind::PermissionDenied, fault),
            StreamFault::TooLong(fault) => io::Error::new(io::ErrorKind::InvalidData, fault),
        }
    }
}

impl<S: Socket> AsyncRead for WatchedStream<S> {
    /// A message that is refused is not passed on, so that nothing answers it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.stream().poll_read(context, buffer);
        let seen = self.see(buffer.filled().get(before..).unwrap_or_default());
        if let Err(fault) = seen {
            buffer.set_filled(before);
            return Poll::Ready(Err(fault.into()));
        }
        polled
    }
}

impl<S: Socket> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.meter.wrote();
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    /// A connection without a login is that of a cancel request, which the server ends once it has passed the request on.
    /// PgBouncer 1.18 may crash where the client ends it before (its log: "bad client state: 0"); libpq waits too.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.login.is_some() {
            let mut bytes = [0; 64];
            let mut buffer = ReadBuf::new(&mut bytes);
            while let Ok(()) = ready!(self.stream().poll_read(context, &mut buffer)) {
                if buffer.filled().is_empty() {
                    break;
                }
                buffer.clear();
            }
        }
        self.stream().poll_shutdown(context)
    }
}

impl<S: Socket> TlsStream for WatchedStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            ByteStream::Plain(_) => ChannelBinding::none(),
            ByteStream::Tls(stream) => stream.channel_binding(),
        }
    }
}

/// How far a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginStep {
    UnderWay,
    Over,
}

/// The messages of a server up to the end of the login.
struct Login {
    accepted: AuthMethods,
    has_asked: bool,
}

impl Login {
    fn new(accepted: AuthMethods) -> Login {
        Login { accepted, has_asked: false }
    }

    /// Goes through the next message of the server.
    fn see(&mut self, head: MessageHead) -> Result<LoginStep, LoginFault> {
        match head.letter {
            AUTHENTICATION => self.see_request(head.request),
            _ => Ok(LoginStep::UnderWay),
        }
    }

    fn see_request(&mut self, number: Option<u32>) -> Result<LoginStep, LoginFault> {
        let method = match number {
            Some(0) if self.has_asked => return Ok(LoginStep::Over),
            Some(0) => AuthMethod::None,
            Some(3) => AuthMethod::Password,
            Some(5) => AuthMethod::Md5,
            Some(10) => AuthMethod::ScramSha256,
            // The later messages of SCRAM.
            Some(11 | 12) => return Ok(LoginStep::UnderWay),
            _ => AuthMethod::Other,
        };
        if !self.accepted.contains(method) {
            return Err(LoginFault::Method(method));
        }
        self.has_asked = true;
        Ok(if method == AuthMethod::None { LoginStep::Over } else { LoginStep::UnderWay })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![letter];
        bytes.extend((rest.len() as u32 + 4).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn request(number: u32) -> Vec<u8> {
        message(AUTHENTICATION, &[&number.to_be_bytes()[..], b"salt"].concat())
    }

    /// How far a login is after these bytes, which come in parts of this size.
    fn seen(bytes: &[u8], size: usize) -> Result<LoginStep, LoginFault> {
        let (mut login, mut meter) = (Login::new(AuthMethods::UNPROVED), MessageMeter::default());
        let mut step = LoginStep::UnderWay;
        for part in bytes.chunks(size) {
            let read = meter.read(part, |head| {
                if step == LoginStep::UnderWay {
                    step = login.see(head)?;
                }
                Ok(())
            });
            match read {
                Err(StreamFault::Login(fault)) => return Err(fault),
                Err(StreamFault::TooLong(fault)) => panic!("{fault}"),
                Ok(()) => {}
            }
        }
        Ok(step)
    }

    #[test]
    fn a_request_is_seen_however_its_bytes_come() {
        let notice = message(b'N', b"Rabc\0\0\0\x03");
        for (number, fault) in
            [(3, Some(AuthMethod::Password)), (5, Some(AuthMethod::Md5)), (10, None)]
        {
            let bytes = [notice.clone(), request(number)].concat();
            for size in 1..=bytes.len() {
                let seen = seen(&bytes, size);
                assert_eq!(seen.err(), fault.map(LoginFault::Method), "{number}, {size}");
            }
        }
    }

    #[test]
    fn a_login_is_over_when_the_server_says_so() {
        let all = usize::MAX;
        let scram = [request(10), request(11), request(12)].concat();
        assert_eq!(seen(&scram, all), Ok(LoginStep::UnderWay));
        assert_eq!(seen(&[scram, request(0), request(3)].concat(), all), Ok(LoginStep::Over));
        assert_eq!(seen(&request(0), all), Ok(LoginStep::Over));
    }
}
