//! The sources themselves: what the build proves about them, and whether the pages are current.

mod build;
mod schema_reference;
