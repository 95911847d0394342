//! What an error number of the operating system means, whatever file it is about: the kind of the error, and what to do.

use std::io;

use rustix::io::Errno;

use crate::error::Kind;

/// The kind of an error with this number, and what to do about it, whatever call failed with it. `None` if that depends on
/// the call. (errno(3))
pub fn meaning(errno: Errno) -> Option<(Kind, &'static str)> {
    Some(match errno {
        Errno::IO | Errno::NXIO | Errno::NODEV | Errno::TIMEDOUT => {
            (Kind::Io, "check the disk (`dmesg`, `smartctl`) and its mount (`findmnt`)")
        }
        Errno::STALE => (Kind::Io, "mount its file system again (`findmnt`)"),
        Errno::MFILE => {
            (Kind::Io, "raise the limit on open files (`ulimit -n`, LimitNOFILE=) and run it again")
        }
        Errno::NFILE => (
            Kind::Io,
            "this machine has no open file left: find the program that holds them (`lsof`), or raise fs.file-max",
        ),
        Errno::NOMEM => (
            Kind::Io,
            "free memory (`free`), or raise the limit of this process (`ulimit -v`, MemoryMax=)",
        ),
        Errno::ACCESS | Errno::PERM => (
            Kind::Permission,
            "check the permissions and attributes of the path (`namei -l`, `lsattr -d`)",
        ),
        Errno::ROFS => (Kind::Permission, "mount the disk so that it can be written (`findmnt`)"),
        Errno::LOOP => (Kind::Config, "correct the symbolic links of the path (`namei -l`)"),
        _ => return None,
    })
}

/// The error number of an error of the operating system.
pub fn errno_of(cause: &io::Error) -> Option<Errno> {
    Errno::from_io_error(cause)
}
