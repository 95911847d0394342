//! `cts backups`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::backup::no_folder;
use crate::archive::{ArchiveFolder, ArchiveSettings, Reach, reaches, shown};
use crate::backup::{
    BackupFolder, BackupListing, BackupOwner, Keeping, ListedBackup, Manifest, list_folder,
};
use crate::config::Config;
use crate::error::Result;
use crate::store::WaitPolicy;
use crate::system::clock::UtcTime;
use crate::system::output::{print_json, print_lines};
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// How long the database is waited for, to tell which of the backups are its own.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Lists the backups, the newest first, and whatever else is in their folder.
///
/// # Errors
/// If their folder cannot be read.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let archive = config.archive.as_ref().map(ArchiveListing::read).transpose()?;
    let Some(path) = config.backups.folder.as_deref() else {
        return match archive {
            Some(archive) if as_json => print_json(&json!({"archive": archive.json()}).to_string()),
            Some(archive) => print_lines(&archive.text()),
            None => Err(no_folder()),
        }
        .map(|()| 0);
    };
    let owner = owner(config);
    let now = SystemTime::now();
    let listing = list_folder(&BackupFolder::at(path), owner.as_ref(), &config.backups, now)?;
    if as_json {
        let mut json = json_listing(&listing, path, now);
        json["archive"] = archive.map_or(Value::Null, |archive| archive.json());
        print_json(&json.to_string())?;
    } else {
        print_lines(&text(&listing, path, now))?;
        if let Some(archive) = archive {
            print_lines(&archive.text())?;
        }
    }
    Ok(0)
}

/// What an archive reaches.
struct ArchiveListing {
    folder: String,
    reaches: Vec<Reach>,
    bytes: u64,
    /// A fault of its list.
    fault: Option<String>,
}

impl ArchiveListing {
    fn read(settings: &ArchiveSettings) -> Result<ArchiveListing> {
        let folder = ArchiveFolder::at(&settings.folder);
        let listed = folder.list()?;
        Ok(ArchiveListing {
            folder: folder.path().display().to_string(),
            reaches: reaches(&listed.chain),
            bytes: listed.chain.segments.iter().map(|segment| segment.bytes).sum(),
            fault: listed.fault.map(|fault| fault.to_string()),
        })
    }

    fn text(&self) -> Lines {
        let mut lines = Lines::new();
        let count = match self.reaches.len() {
            0 => "nothing is archived yet".to_string(),
            _ => format!("{}, restored with `cts restore --at TIME`", Bytes(self.bytes)),
        };
        lines.add(format_args!("archive {}: {count}", self.folder));
        for Reach { from, to, gap } in &self.reaches {
            if let Some(why) = gap {
                lines.add(format_args!("  gap: {why}"));
            }
            lines.add(format_args!("  from {} to {}", shown(*from), shown(*to)));
        }
        if let Some(fault) = &self.fault {
            lines.add(format_args!("  ⚠ {fault}"));
        }
        lines
    }

    fn json(&self) -> Value {
        let reaches = self.reaches.iter().map(|reach| {
            json!({"from": shown(reach.from), "to": shown(reach.to), "gapBefore": reach.gap})
        });
        json!({
            "folder": self.folder,
            "reaches": reaches.collect::<Vec<_>>(),
            "sizeBytes": self.bytes,
            "fault": self.fault,
        })
    }
}

/// The database in the place; `None` where it does not exist or cannot be read.
fn owner(config: &Config) -> Option<BackupOwner> {
    let cancelled = Default::default();
    let wait = WaitPolicy::silent(DATABASE_TIMEOUT, &cancelled);
    let subject = config.database.backup_subject(&wait).ok()?;
    Some(BackupOwner::new(&*config.database, &subject.database_id))
}

fn text(listing: &BackupListing, folder: &std::path::Path, now: SystemTime) -> Lines {
    let mut lines = Lines::new();
    lines.add(format_args!("{}: {}", folder.display(), count(listing.backups.len())));
    for listed in &listing.backups {
        let Manifest { file, size_bytes, drill, proved_at, .. } = &listed.backup.manifest;
        let manifest = &listed.backup.manifest;
        let schema = manifest.schema_version().unwrap_or("of an older CTS");
        let drilled = match drill {
            Some(drill) if drill.failure.is_none() => format!("restored for a trial {}", drill.at),
            Some(_) => "restoring it for a trial failed".into(),
            None => "not restored for a trial".into(),
        };
        lines.add(format_args!(
            "{file}  {} old  {}  schema {schema}  proved {proved_at}, {drilled}; {}",
            age(manifest, now),
            Bytes(*size_bytes),
            keeping(&listed.keeping, manifest)
        ));
        for fault in &listed.faults {
            lines.add(format_args!("  ⚠ {fault}"));
        }
    }
    for (name, what) in &listing.others {
        lines.add(format_args!("other: {name}: {what}"));
    }
    lines
}

fn count(backups: usize) -> String {
    match backups {
        0 => "there is no backup".into(),
        1 => "1 backup".into(),
        count => format!("{count} backups"),
    }
}

/// The age by the clock of this machine.
fn age(manifest: &Manifest, now: SystemTime) -> String {
    let shown = |age: Duration| {
        let seconds = match age.as_secs() {
            seconds @ ..3600 => seconds,
            seconds @ ..86_400 => seconds - seconds % 60,
            seconds => seconds - seconds % 3600,
        };
        humantime::format_duration(Duration::from_secs(seconds)).to_string()
    };
    match manifest.made_at().map(|made_at| now.duration_since(made_at)) {
        Some(Ok(age)) => shown(age),
        Some(Err(_)) => "dated in the future, unknown how".into(),
        None => "unknown how".into(),
    }
}

fn keeping(keeping: &Keeping, manifest: &Manifest) -> String {
    match keeping {
        Keeping::Rules(reasons, until) => {
            let names: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
            let until = until.map(|until| format!(", until about {}", day(until)));
            format!("kept as {}{}", names.join(", "), until.unwrap_or_default())
        }
        Keeping::None => "no rule keeps it: the next backup deletes it".into(),
        Keeping::Hand => "kept until a person deletes it".into(),
        Keeping::OtherDatabase => format!("of another database, {}", manifest.database.location),
        Keeping::BeforeAdoption => {
            "from before the adoption: kept until a person deletes it".into()
        }
        Keeping::Changed => "not what cts made: kept until a person deletes it".into(),
        Keeping::Unknown => {
            "the database is not there, or cannot be read: nothing is deleted".into()
        }
    }
}

fn day(at: SystemTime) -> String {
    UtcTime::of(at).rfc3339().chars().take("2026-11-28".len()).collect()
}

fn json_listing(listing: &BackupListing, folder: &std::path::Path, now: SystemTime) -> Value {
    let backups: Vec<Value> =
        listing.backups.iter().map(|listed| json_backup(listed, now)).collect();
    let others = listing.others.iter().map(|(name, what)| json!({"file": name, "what": what}));
    json!({
        "folder": folder.display().to_string(),
        "backups": backups,
        "others": others.collect::<Vec<_>>(),
    })
}

/// The manifest, with what follows from it now.
fn json_backup(listed: &ListedBackup, now: SystemTime) -> Value {
    let manifest = &listed.backup.manifest;
    let age = manifest.made_at().and_then(|made_at| now.duration_since(made_at).ok());
    let (status, rules, until) = match &listed.keeping {
        Keeping::Rules(reasons, until) => ("rules", reasons.clone(), *until),
        Keeping::None => ("none", Vec::new(), None),
        Keeping::Hand => ("hand", Vec::new(), None),
        Keeping::OtherDatabase => ("other-database", Vec::new(), None),
        Keeping::BeforeAdoption => ("before-adoption", Vec::new(), None),
        Keeping::Changed => ("changed", Vec::new(), None),
        Keeping::Unknown => ("unknown", Vec::new(), None),
    };
    let mut value = json!(manifest);
    value["path"] = json!(listed.backup.path.display().to_string());
    value["ageSeconds"] = json!(age.map(|age| age.as_secs()));
    value["schemaVersion"] = json!(manifest.schema_version());
    let until = until.map(|until| UtcTime::of(until).rfc3339());
    value["kept"] = json!({"status": status, "rules": rules, "until": until});
    value["faults"] = json!(listed.faults);
    value
}
