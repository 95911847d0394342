//! `cts verify --statistics`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::stats::REPAIR;
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::statistics::proof::prove;
use crate::statistics::render::{proof_json, proof_text};
use crate::store::WaitPolicy;
use crate::system::output::{print_json, print_lines};

/// Calculates the statistics of closed positions again, and prints what differs. The exit code is 0 without a difference,
/// else 1.
///
/// # Errors
/// Where there is no database, or it cannot be read. Nothing is changed.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(config.lock_timeout, &cancelled).configured();
    let mut reader = config.database.open_statistics_to_read(&wait)?;
    let proof = prove(&mut *reader).map_err(|error| match error.kind {
        Kind::Data if error.remedy.is_none() => error.remedy(REPAIR),
        _ => error,
    })?;
    drop(reader);
    match as_json {
        true => print_json(&proof_json(&proof)),
        false => print_lines(&proof_text(&proof)),
    }?;
    Ok(u8::from(!proof.is_proved()))
}
