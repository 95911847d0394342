//! A real Patroni cluster of three nodes, reached by a URL with all hosts and through HAProxy: cts follows
//! its primary, and writes nothing to a server that is no longer the primary.

mod failures;
mod service;
mod work;

use failures::Failure;
