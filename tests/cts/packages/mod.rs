//! The packages in which cts is installed.

pub mod container_image;
pub mod first_minutes;
pub mod folder;
pub mod install;
pub mod lintian;
pub mod transitions;
mod variants;
