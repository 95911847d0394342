//! Notifications to systemd: the protocol of sd_notify(3), datagrams to the socket that it names.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

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

    /// Notifies that the service is ready.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Sets the status text that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// Extends the start timeout.
    pub fn extend_start(&self, by: Duration, status: &str) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={status}", by.as_micros()));
    }

    /// Resets the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Notifies that the service is stopping.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // Without a receiver the service runs on all the same.
            let _ = socket.send_to_addr(message.as_bytes(), address);
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
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}
