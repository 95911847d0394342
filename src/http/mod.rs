//! HTTP: the gate that accepts connections, request heads, replies, the server and the client.

mod access;
pub mod client;
mod conditional;
pub mod counters;
mod exchange;
mod gate;
mod head;
mod host;
mod listener;
mod refusal_log;
mod reply;
mod response;
pub mod server;
mod slots;
pub mod source;
