//! The PostgreSQL store: a server that several boxes may share. It owns where the server is
//! and how it is reached.

#![allow(dead_code, reason = "nothing connects yet")]

pub mod tls;
pub mod url;
