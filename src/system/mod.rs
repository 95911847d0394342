//! What the operating system offers: log, output and the text that is fit for it, files, secrets, users,
//! processes, how this one was called, progress, errors, signals, deadlines, the clock, addresses, systemd.
//! Nothing here knows a database.

pub mod address;
#[cfg(feature = "postgres")]
pub mod child_program;
pub mod clock;
pub mod colour;
pub mod count;
pub mod deadline;
pub mod environment;
pub mod environment_file;
pub mod errno;
pub mod file_handle;
pub mod invocation;
pub mod locale;
pub mod log;
mod log_queue;
mod log_writer;
pub mod new_file;
pub mod output;
pub mod process;
pub mod process_figures;
pub mod progress;
pub mod secret;
pub mod shell;
pub mod signals;
pub mod size;
pub mod small_file;
pub mod systemd;
pub mod unit_file;
pub mod users;
pub mod value;
pub mod version;
pub mod visible;
