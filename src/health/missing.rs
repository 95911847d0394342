//! What is missing of the schema: whether it can be put back, and all of it in one sentence.

use std::collections::BTreeSet;

use super::conditions::Subject;
use super::reason::{Reason, RemedyCommand};
use super::report::{Report, Surroundings};
use crate::migrate::outlook::{MissingObject, Outlook};
use cts_schema::catalog::{CRITICAL, Drift, Object};

/// How many missing objects the sentence names. It names one more rather than count a single one.
const NAMES_SHOWN: usize = 2;

impl Report {
    /// The reasons as one line has room for them, by how much they matter: what is missing is one of them, and the
    /// first of those that matter as much.
    pub fn summary(&self) -> Vec<String> {
        let missing = self.missing_in_one_reason();
        // Why an object cannot be put back is only in its own reason.
        let is_in_it = |reason: &Reason| {
            missing.is_some() && reason.missing.as_ref().is_some_and(|found| !is_blocked(found))
        };
        let others = self.reasons_found.iter().filter(|reason| !is_in_it(reason));
        let mut all: Vec<&Reason> = missing.iter().chain(others).collect();
        all.sort_by_key(|reason| reason.severity);
        all.into_iter().map(|reason| reason.text.clone()).collect()
    }

    /// Names what is missing, and the command that puts it back where there is one. `None` where nothing is missing,
    /// or a single object whose own reason says more: why it cannot be put back.
    fn missing_in_one_reason(&self) -> Option<Reason> {
        let mut missing: Vec<&MissingObject> = self.missing().collect();
        missing.sort_by_key(|found| rank(&found.object));
        match missing.as_slice() {
            [] => return None,
            [only] if is_blocked(only) => return None,
            _ => {}
        }
        let shown = if missing.len() <= NAMES_SHOWN + 1 { missing.len() } else { NAMES_SHOWN };
        let (named, counted) = missing.split_at(shown);
        let mut text = format!("missing: {}", names(named));
        if !counted.is_empty() {
            text += &format!("; {} more", counted.len());
        }
        text += &command(&missing);
        let is_critical = missing.iter().any(|found| is_critical(&found.object));
        Some(if is_critical { Reason::critical(text) } else { Reason::warning(text) })
    }

    /// What is missing; nothing where no table is left, which is a reason of its own.
    pub fn missing(&self) -> impl Iterator<Item = &MissingObject> {
        self.reasons_found.iter().filter_map(|reason| reason.missing.as_ref())
    }
}

/// Critical tables come first, then tables, columns and indexes.
fn rank(object: &Object) -> usize {
    match object {
        Object::Table(_) if is_critical(object) => 0,
        Object::Table(_) => 1,
        Object::Column(..) => 2,
        Object::Index(..) => 3,
    }
}

/// Whether something is in the way of putting it back.
fn is_blocked(found: &MissingObject) -> bool {
    matches!(found.outlook, Outlook::Blocked(_))
}

/// The command that puts back what can be put back, with the conditions on which that depends.
fn command(missing: &[&MissingObject]) -> String {
    let repairable = |found: &&MissingObject| match &found.outlook {
        Outlook::Repairable(condition) => Some(condition.clone()),
        Outlook::Blocked(_) | Outlook::NotNow => None,
    };
    let repairable: Vec<Option<String>> = missing.iter().filter_map(repairable).collect();
    if repairable.is_empty() {
        return String::new();
    }
    let conditions: BTreeSet<String> = repairable.into_iter().flatten().collect();
    let command = format!(". Run: {}", RemedyCommand::Repair.text());
    match conditions.is_empty() {
        true => command,
        false => format!("{command} (unless {})", Vec::from_iter(conditions).join(" or ")),
    }
}

/// The names of objects that are sorted by their kind, the kind once before those of it.
fn names(sorted: &[&MissingObject]) -> String {
    let objects: Vec<&Object> = sorted.iter().map(|found| &found.object).collect();
    let of_one_kind = objects.chunk_by(|one, next| kind(one) == kind(next));
    let groups: Vec<String> = of_one_kind
        .map(|group| {
            let names: Vec<String> = group.iter().map(|object| name(object)).collect();
            let (one, several) = group.first().map_or(("", ""), |object| kind(object));
            format!("{} {}", if names.len() == 1 { one } else { several }, names.join(", "))
        })
        .collect();
    groups.join(", ")
}

/// What one object of its kind is called, and several.
fn kind(object: &Object) -> (&'static str, &'static str) {
    match object {
        Object::Table(_) => ("table", "tables"),
        Object::Column(..) => ("column", "columns"),
        Object::Index(..) => ("index", "indexes"),
    }
}

fn name(object: &Object) -> String {
    match object {
        Object::Table(table) if is_critical(object) => format!("{table} (critical)"),
        Object::Table(table) => table.clone(),
        Object::Column(table, column) => format!("{table}.{column}"),
        Object::Index(table, index) => format!("{index} on {table}"),
    }
}

/// The missing objects, each with whether it can be put back: what was attempted and refused, and what
/// comes first, are known beside the database's own obstacles.
pub fn missing_objects_now(drift: &Drift, surroundings: &Surroundings) -> Vec<MissingObject> {
    let Surroundings { storage, conditions, damage, missing, .. } = surroundings;
    let comes_first = storage.unwritable().is_some()
        || !damage.pages.is_empty()
        || conditions.iter().any(|condition| condition.subject == Subject::Write);
    let refused = |object: &Object| {
        let mut refused = conditions.iter().flat_map(|condition| &condition.refused);
        refused.find(|(known, _)| known == object).map(|(_, error)| error.clone())
    };
    // The condition itself says why.
    let is_first = |object: &Object| {
        let mut first = conditions.iter().filter_map(|condition| condition.refused.first());
        first.any(|(known, _)| known == object)
    };
    let outlook = |object: &Object| {
        if is_first(object) {
            return Outlook::NotNow;
        }
        let found = missing.iter().find(|found| found.object == *object);
        match found.map(|found| found.outlook.clone()) {
            Some(Outlook::Blocked(error)) => Outlook::Blocked(error),
            _ if comes_first => Outlook::NotNow,
            found => match refused(object) {
                Some(error) => Outlook::Blocked(Box::new(error)),
                None => found.unwrap_or(Outlook::NotNow),
            },
        }
    };
    let missing = drift.missing.iter();
    missing
        .map(|object| MissingObject { object: object.clone(), outlook: outlook(object) })
        .collect()
}

/// Whether it is a table without which the database is not usable.
fn is_critical(object: &Object) -> bool {
    matches!(object, Object::Table(table) if CRITICAL.contains(&table.as_str()))
}

/// The reasons of a database that has these tables: each missing object is one. Critical tables come first, also those that
/// a pending migration creates.
pub fn missing_reasons(tables: &[&str], missing: Vec<MissingObject>) -> Vec<Reason> {
    let critical = CRITICAL.iter().filter(|table| !tables.contains(table)).map(|table| {
        let object = Object::Table((*table).into());
        let known = missing.iter().find(|found| found.object == object).cloned();
        known.unwrap_or(MissingObject { object, outlook: Outlook::NotNow })
    });
    let critical: Vec<MissingObject> = critical.collect();
    let others = missing.into_iter().filter(|found| !is_critical(&found.object));
    critical.into_iter().chain(others).map(missing_reason).collect()
}

fn missing_reason(found: MissingObject) -> Reason {
    let reason = match &found.outlook {
        _ if !is_critical(&found.object) => Reason::warning(found.to_string()),
        Outlook::Blocked(error) => Reason::critical(format!(
            "critical {} is missing and cannot be put back: {error}",
            found.object
        )),
        Outlook::Repairable(_) | Outlook::NotNow => {
            Reason::critical(format!("critical {} is missing", found.object))
        }
    };
    let reason = match found.outlook {
        Outlook::Repairable(_) => reason.with_command(RemedyCommand::Repair),
        Outlook::Blocked(_) | Outlook::NotNow => reason,
    };
    Reason { missing: Some(found), ..reason }
}
