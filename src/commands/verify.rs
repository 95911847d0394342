//! `cts verify`.

use super::drift::drift_text;
use super::open_read_only;
use crate::config::Config;
use crate::error::Result;
use crate::health::render::drift_json;
use crate::migrate::outlook::missing_objects;
use crate::system::output::{print_json, print_lines};

/// Prints the difference from the expected catalogue. The exit code is 0 without drift, else 1.
///
/// # Errors
/// Where there is no database, or it cannot be read.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let identity = config.database.identity();
    let Some(mut database) = open_read_only(config, config.lock_timeout)? else {
        return Err(identity.absent_error());
    };
    let snapshot = database.inspect_with_counters()?;
    let missing = missing_objects(&mut *database, &snapshot);
    drop(database);
    let drift = snapshot.drift(identity.schema);
    match as_json {
        true => print_json(&drift_json(&drift, &snapshot.exceptions)),
        false => print_lines(&drift_text(identity.schema, &drift, &missing, &snapshot.exceptions)),
    }?;
    Ok(u8::from(!drift.is_none()))
}
