//! HTTP: the gate that accepts connections, request heads, replies, the server and the client.

pub mod client;
mod gate;
mod head;
pub mod reply;
pub mod server;
