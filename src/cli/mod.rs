//! The command line: arguments in, a command and its flags out.

mod arguments;

pub use arguments::{Command, parse};
