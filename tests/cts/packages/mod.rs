//! The packages in which cts is installed.

pub mod install;
