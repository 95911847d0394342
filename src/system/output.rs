//! Standard output, and writing to a descriptor that other programs share.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::tcgetwinsize;

use crate::error::{Error, Kind, Result};
use crate::system::colour::{coloured, has_colour};
use crate::system::visible::{Lines, visible_json};

/// The characters of a line of the terminal that standard output is; `None` where it is none.
pub fn terminal_width() -> Option<usize> {
    let columns = tcgetwinsize(io::stdout()).ok()?.ws_col;
    (columns > 0).then_some(columns.into())
}

/// Writes lines to standard output, signs coloured on a terminal. A pipe whose reader has ended is not an error.
///
/// # Errors
///
/// [`Kind::Io`] if they cannot be written completely.
pub fn print_lines(lines: &Lines) -> Result<()> {
    if !has_colour(&io::stdout()) {
        return write(lines.as_str());
    }
    let lines: Vec<String> = lines.as_str().lines().map(coloured).collect();
    write(&(lines.join("\n") + "\n"))
}

/// Writes JSON text and a line end to standard output. A pipe whose reader has ended is not an error.
///
/// # Errors
///
/// [`Kind::Io`] if it cannot be written completely.
pub fn print_json(json: &str) -> Result<()> {
    write(&format!("{}\n", visible_json(json)))
}

fn write(text: &str) -> Result<()> {
    match write_all(&io::stdout(), &mut text.as_bytes()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, "cannot write to standard output").caused_by(e))
        }
        _ => Ok(()),
    }
}

/// Writes all bytes to a descriptor. Another program that shares it may have made it non-blocking:
/// then this waits until it accepts more.
///
/// # Errors
///
/// Of the operating system; `bytes` are those that are not written.
pub fn write_all(descriptor: &impl AsFd, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_writable(descriptor)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn await_writable(descriptor: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(descriptor, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
