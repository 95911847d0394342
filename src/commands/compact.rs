//! What `cts prune --compact` does after it has deleted old rows: the database is rebuilt into a smaller file.

use serde_json::{Value, json};

use crate::backup::{Compaction, CompactionPlan, MadeBackup};
use crate::config::Config;
use crate::error::Result;
use crate::store::WaitPolicy;
use crate::system::log::Log;
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// Makes the backup, and rebuilds the database.
///
/// # Errors
/// Why that cannot be done. The database before is in its place, unless the error says otherwise.
pub fn execute(
    plan: &CompactionPlan,
    config: &Config,
    log: Log,
    wait: &WaitPolicy<'_>,
) -> Result<Compaction> {
    let location = &plan.place.location;
    log.info(format_args!("Rebuilding {location}, after a backup"));
    let done = plan.execute(&*config.database, &config.backups, wait)?;
    let MadeBackup { backup, notes, .. } = &done.backup;
    notes.iter().for_each(|note| log.info(note));
    log.info(format_args!("✓ {}", backup.summary()));
    log.info(format_args!("✓ Rebuilt {location}: {}", sizes(&done)));
    Ok(done)
}

fn sizes(done: &Compaction) -> String {
    let (before, after) = (Bytes(done.rebuilt.before_bytes), Bytes(done.rebuilt.after_bytes));
    format!("{before} before, {after} now")
}

/// Says what was done.
pub fn add_text(done: &Compaction, lines: &mut Lines) {
    let content = &done.rebuilt.content;
    lines.add(format_args!(
        "rebuilt: {}; {} tables with {} rows, the same as before; the backup made before is {}",
        sizes(done),
        content.tables.len(),
        content.rows(),
        done.backup.backup.path.display()
    ));
}

/// Says what would be done.
pub fn add_plan(plan: &CompactionPlan, lines: &mut Lines) {
    let place = &plan.place;
    lines.add(format_args!(
        "{} would be rebuilt after a backup: {} now, at most {} then, and less by what is deleted",
        place.location,
        Bytes(place.present_bytes),
        Bytes(place.needed_bytes)
    ));
}

/// What was done, in JSON.
pub fn json_of(done: &Compaction) -> Value {
    json!({
        "backup": done.backup.backup.path.display().to_string(),
        "beforeBytes": done.rebuilt.before_bytes,
        "afterBytes": done.rebuilt.after_bytes,
        "rows": done.rebuilt.content.rows(),
    })
}

/// What would be done, in JSON.
pub fn plan_json(plan: &CompactionPlan) -> Value {
    json!({ "beforeBytes": plan.place.present_bytes, "afterBytesMax": plan.place.needed_bytes })
}
