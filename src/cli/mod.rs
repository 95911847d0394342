//! The command line: arguments in, a command and its flags out, or the report of a failure.

mod arguments;
mod definition;
mod failure;
mod secrets;

pub use arguments::{Command, Invocation, parse};
pub use failure::FailureReporter;
