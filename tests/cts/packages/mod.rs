//! The packages in which cts is installed.

mod install;
