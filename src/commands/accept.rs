//! `cts accept`.

use std::time::Duration;

use super::{interruptible, open_read_only};
use crate::config::Config;
use crate::error::Result;
use crate::migrate::accept;
use crate::system::log::Log;
use crate::system::output::print_lines;
use crate::system::visible::Lines;

/// Records that the differences of an object from the expected catalogue are meant so, or withdraws that.
///
/// # Errors
/// Where there is no database, or the object does not differ or cannot be accepted. Nothing was changed.
pub fn run(config: &Config, log: Log, object: &str, withdraw: bool) -> Result<u8> {
    if open_read_only(config, Duration::ZERO).is_ok_and(|database| database.is_none()) {
        return Err(config.database.identity().absent_error());
    }
    let lines = interruptible(config.lock_timeout, log, |wait| {
        let mut store = config.database.open(wait, &mut |_| Ok(()))?.store;
        let lines = accept(&mut *store, wait, object, withdraw)?;
        store.close()?;
        Ok(lines)
    })?;
    let mut text = Lines::new();
    for line in &lines {
        text.add(line);
    }
    if lines.is_empty() {
        text.add(format_args!(
            "{object}: {}",
            match withdraw {
                true => "not accepted, so nothing was withdrawn",
                false => "accepted already",
            }
        ));
    }
    print_lines(&text)?;
    Ok(0)
}
