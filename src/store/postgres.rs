//! The PostgreSQL backend.

// Read by the build so far; the store itself is to come.
#[allow(dead_code, unused_imports)]
pub mod expected;
#[allow(dead_code)]
pub mod expression;
