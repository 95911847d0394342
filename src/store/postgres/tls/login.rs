//! Watches the login of a connection: which password a server asks for is seen here before it is
//! answered. The library answers every request by itself, also for the password in clear text,
//! whoever sends it. The negotiation of TLS, which comes before, is here for that reason too.
//! (PostgreSQL documentation, "Message Flow", "SSL Session Encryption")

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::config::SslMode as Negotiation;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::postgres::limited_stream::LimitedStream;
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
        let plain = |socket, accepted| WatchedStream::new(ByteStream::Plain(socket), accepted);
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
        Ok(WatchedStream::new(stream, self.watch.with_tls))
    }
}

enum ByteStream<S: Socket> {
    Plain(S),
    Tls(Box<TlsOf<S>>),
}

impl<S: Socket> ByteStream<S> {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut (dyn Duplex + Send)> {
        match self.get_mut() {
            ByteStream::Plain(socket) => Pin::new(socket),
            ByteStream::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

impl<S: Socket> AsyncRead for ByteStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl<S: Socket> AsyncWrite for ByteStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

/// A connection whose login is watched, and whose messages have limits.
pub struct WatchedStream<S: Socket> {
    stream: LimitedStream<ByteStream<S>>,
    /// What has come of the login; `None` once it is over.
    login: Option<Login>,
}

impl<S: Socket> WatchedStream<S> {
    fn new(stream: ByteStream<S>, accepted: AuthMethods) -> WatchedStream<S> {
        let stream = LimitedStream::new(stream);
        WatchedStream { stream, login: Some(Login::new(accepted)) }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut LimitedStream<ByteStream<S>>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

/// Reads and writes.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

impl<S: Socket> AsyncRead for WatchedStream<S> {
    /// A message that is refused is not passed on, so that nothing answers it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.as_mut().stream().poll_read(context, buffer);
        if let Some(login) = &mut self.login {
            match login.see(buffer.filled().get(before..).unwrap_or_default()) {
                Ok(LoginStep::UnderWay) => {}
                Ok(LoginStep::Over) => self.login = None,
                Err(fault) => {
                    buffer.set_filled(before);
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        fault,
                    )));
                }
            }
        }
        polled
    }
}

impl<S: Socket> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

impl<S: Socket> TlsStream for WatchedStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        match self.stream.get_ref() {
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

/// The messages of a server up to the end of the login: a letter, the length of the rest with its own
/// four bytes, and the rest, which begins with a number in the messages of the login.
struct Login {
    accepted: AuthMethods,
    /// The letter, the length and the number of the present message, as far as they have come.
    head: Vec<u8>,
    /// Bytes of the present message that are still to come after `head`.
    rest: usize,
    has_asked: bool,
}

/// The letter of the messages of the login.
const AUTHENTICATION: u8 = b'R';

impl Login {
    fn new(accepted: AuthMethods) -> Login {
        Login { accepted, head: Vec::new(), rest: 0, has_asked: false }
    }

    /// Goes through the next bytes of the server.
    fn see(&mut self, bytes: &[u8]) -> Result<LoginStep, LoginFault> {
        let mut bytes = bytes;
        while let Some((first, after)) = bytes.split_first() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = after;
            if self.see_head()? == LoginStep::Over {
                return Ok(LoginStep::Over);
            }
        }
        Ok(LoginStep::UnderWay)
    }

    fn see_head(&mut self) -> Result<LoginStep, LoginFault> {
        let [letter, a, b, c, d, rest @ ..] = self.head.as_slice() else {
            return Ok(LoginStep::UnderWay);
        };
        let length = u32::from_be_bytes([*a, *b, *c, *d]).saturating_sub(4) as usize;
        match (*letter, rest) {
            (AUTHENTICATION, [a, b, c, d]) => {
                let number = u32::from_be_bytes([*a, *b, *c, *d]);
                self.rest = length.saturating_sub(4);
                self.head.clear();
                self.see_request(number)
            }
            (AUTHENTICATION, _) => Ok(LoginStep::UnderWay),
            _ => {
                self.rest = length;
                self.head.clear();
                Ok(LoginStep::UnderWay)
            }
        }
    }

    fn see_request(&mut self, number: u32) -> Result<LoginStep, LoginFault> {
        let method = match number {
            0 if self.has_asked => return Ok(LoginStep::Over),
            0 => AuthMethod::None,
            3 => AuthMethod::Password,
            5 => AuthMethod::Md5,
            10 => AuthMethod::ScramSha256,
            // The later messages of SCRAM.
            11 | 12 => return Ok(LoginStep::UnderWay),
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

    #[test]
    fn a_request_is_seen_however_its_bytes_come() {
        let notice = message(b'N', b"Rabc\0\0\0\x03");
        for (number, fault) in
            [(3, Some(AuthMethod::Password)), (5, Some(AuthMethod::Md5)), (10, None)]
        {
            let bytes = [notice.clone(), request(number)].concat();
            for size in 1..=bytes.len() {
                let mut login = Login::new(AuthMethods::UNPROVED);
                let seen = bytes.chunks(size).try_for_each(|part| login.see(part).map(|_| ()));
                assert_eq!(seen.err(), fault.map(LoginFault::Method), "{number}, {size}");
            }
        }
    }

    #[test]
    fn a_login_is_over_when_the_server_says_so() {
        let mut login = Login::new(AuthMethods::UNPROVED);
        assert_eq!(
            login.see(&[request(10), request(11), request(12)].concat()),
            Ok(LoginStep::UnderWay)
        );
        assert_eq!(login.see(&[request(0), request(3)].concat()), Ok(LoginStep::Over));
        assert_eq!(Login::new(AuthMethods::UNPROVED).see(&request(0)), Ok(LoginStep::Over));
    }
}
