//! Notifications to systemd: the protocol of sd_notify(3), datagrams to the socket that it names.

use std::env;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::system::visible::visible;

/// How long a notification waits for a service manager that takes none: the thread that sends it has more
/// to do, such as to stop.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection to the service manager; without one, notifications are dropped.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The interval within which systemd expects a watchdog notification, if the watchdog is on.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Notifier {
        let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let is_for_us =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Notifier {
            socket: connect(),
            watchdog: number("WATCHDOG_USEC").filter(|_| is_for_us).map(Duration::from_micros),
        }
    }

    /// Notifies that the service is ready. Whether the service manager has taken it, or there is none.
    pub fn ready(&self, status: &str) -> bool {
        self.send(Some("READY=1"), Some(status))
    }

    /// Sets the status text that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(None, Some(status));
    }

    /// Extends the start timeout.
    pub fn extend_start(&self, by: Duration, status: &str) {
        self.send(Some(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros())), Some(status));
    }

    /// Resets the watchdog.
    pub fn alive(&self) {
        self.send(Some("WATCHDOG=1"), None);
    }

    /// Notifies that the service is stopping.
    pub fn stopping(&self, status: &str) {
        self.send(Some("STOPPING=1"), Some(status));
    }

    /// Each line of a message is an assignment: a line end in the status would begin another one. Without a
    /// receiver the service runs on all the same. False if the receiver is too busy to take it.
    fn send(&self, assignment: Option<&str>, status: Option<&str>) -> bool {
        let Some((socket, address)) = &self.socket else { return true };
        let status = status.map(|status| format!("STATUS={}", visible(status)));
        let message = [assignment.map(str::to_string), status];
        let message = message.into_iter().flatten().collect::<Vec<_>>().join("\n");
        match socket.send_to_addr(message.as_bytes(), address) {
            Err(e) => e.kind() != ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

fn connect() -> Option<(UnixDatagram, SocketAddr)> {
    let name = env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        [b'/', ..] => SocketAddr::from_pathname(&name),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT)).ok()?;
    Some((socket, address.ok()?))
}
