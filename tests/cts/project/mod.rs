//! The sources themselves: what the build proves about them, and whether the pages are current.

mod architecture;
mod build;
mod built_from;
pub mod pages;
mod schema_reference;
