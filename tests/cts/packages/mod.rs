//! The packages in which cts is installed.

pub mod arm;
pub mod container_image;
pub mod first_minutes;
pub mod folder;
pub mod install;
pub mod interrupted_upgrades;
pub mod lintian;
#[cfg(feature = "postgres")]
pub mod moving_to_postgresql;
pub mod release;
pub mod transitions;
pub mod upgrades;
#[cfg(feature = "postgres")]
pub mod upgrades_on_postgresql;
mod variants;
