//! The names of all settings, and the variables that look as if they were meant for cts and are not read.

/// The names of all environment variables that configure cts.
pub const VARIABLES: [&str; 25] = [
    "DATABASE_TYPE",
    "SQLITE_DB_PATH",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "HOST",
    "PORT",
    "CTS_ADMIN_TOKEN",
    "CTS_ADMIN_TOKEN_FILE",
    "CTS_ALLOWED_HOSTS",
    "CTS_HTTP_CONNECTIONS",
    "CTS_GROUP_ACCESS",
    "CTS_ALLOW_NETWORK_FS",
    "CTS_BACKUP_DIR",
    "CTS_BACKUP_EVERY",
    "CTS_BACKUP_KEEP",
    "CTS_BACKUP_COMPRESS",
    "CTS_ARCHIVE_DIR",
    "CTS_ARCHIVE_KEEP",
    "CTS_RETENTION",
    "CTS_PG_DUMP",
    "CTS_LOCK_TIMEOUT",
    "CTS_WAIT",
    "CTS_POOL_MAX",
    "CTS_POOL_IDLE",
    "CTS_POOL_CONNECT",
];

const PREFIX: &str = "CTS_";
/// How similar (Jaro-Winkler, 0 to 1) a name must be to be taken for another one.
const SIMILAR: f64 = 0.8;
/// The least similarity of the name that is proposed for a variable with our prefix.
const RELATED: f64 = 0.7;
/// The least similarity of a variable without our prefix that is taken for a setting. Names of which one is
/// less than three quarters as long as the other are not so similar.
const MISSPELT: f64 = 0.95;
/// The length from which on the name of a setting is like no other.
const MISSPELT_LENGTH_MIN: usize = 12;

/// A sentence for each variable that is not read although its name shows that it was meant for cts: an unknown
/// name that begins with `CTS_`, or one that is nearly that of a setting which is not set.
pub fn unknown_variables(variables: &[(String, String)]) -> Vec<String> {
    let is_set =
        |name: &str| variables.iter().any(|(known, value)| known == name && !value.is_empty());
    let sentence = |(name, value): &(String, String)| {
        if VARIABLES.contains(&name.as_str()) || is_service_link(name, value) {
            return None;
        }
        let cleaned = cleaned(name);
        if cleaned.starts_with(PREFIX) {
            return Some(not_read(name, nearest(&cleaned, &VARIABLES)));
        }
        let meant = VARIABLES.iter().copied().filter(|known| is_misspelling(&cleaned, known));
        let meant = meant.collect::<Vec<_>>();
        let known = nearest(&cleaned, &meant).filter(|known| !is_set(known))?;
        Some(not_read(name, Some(known)))
    };
    variables.iter().filter_map(sentence).collect()
}

fn not_read(name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(known) => format!("{name} is set, but cts has no such setting; is {known} meant?"),
        None => format!("{name} is set, but cts has no such setting (`cts --help` lists all)"),
    }
}

/// The name without what an editor, a shell or a writer of lower case makes of it.
fn cleaned(name: &str) -> String {
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    name.strip_prefix("export ").unwrap_or(name).trim().to_ascii_uppercase().replace('-', "_")
}

/// Whether a name without our prefix is so close to that of a setting that it can only be that. Short names
/// are close to those of other programs. The environment has many names, and most are not of the length.
fn is_misspelling(cleaned: &str, known: &str) -> bool {
    let length = known.strip_prefix(PREFIX).unwrap_or(known).len();
    let (shorter, longer) = (cleaned.len().min(length), cleaned.len().max(length));
    cleaned == known
        || (known.len() >= MISSPELT_LENGTH_MIN
            && shorter * 4 >= longer * 3
            && similarity(cleaned, known) >= MISSPELT)
}

/// The most similar of these names of settings.
fn nearest(cleaned: &str, names: &[&'static str]) -> Option<&'static str> {
    let similarities = names.iter().map(|known| (*known, similarity(cleaned, known)));
    let related = similarities.filter(|(_, similarity)| *similarity >= RELATED);
    related.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(known, _)| known)
}

/// How similar a name is to that of a setting, from 0 to 1; our prefix does not count.
fn similarity(cleaned: &str, known: &str) -> f64 {
    let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_string();
    let (given, known) = (own(cleaned), own(known));
    let is_part = given.len() > 3 && (known.ends_with(&given) || given.ends_with(&known));
    let similarity = strsim::jaro_winkler(&given, &known);
    if is_part { similarity.max(SIMILAR) } else { similarity }
}

/// Docker and Kubernetes describe a service named `cts` to its neighbours by variables of this form.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = value.starts_with("tcp://") || value.starts_with("udp://");
    let is_port = name
        .strip_prefix("CTS_PORT_")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.starts_with("CTS_SERVICE_") || is_port || (name == "CTS_PORT" && is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(variables: &[(&str, &str)]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        unknown_variables(&variables.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_nearest_setting() {
        for (name, nearest) in [
            ("CTS_GROUP_ACESS", "CTS_GROUP_ACCESS"),
            ("CTS_PORT", "PORT"),
            ("CTS_HOST", "HOST"),
            ("CTS_DB_PATH", "SQLITE_DB_PATH"),
            ("CTS_DATABASE_URL", "DATABASE_URL"),
            ("CTS_TOKEN", "CTS_ADMIN_TOKEN"),
            ("CTS_LOCKTIMEOUT", "CTS_LOCK_TIMEOUT"),
            ("cts_wait", "CTS_WAIT"),
            ("CTS_GROUP-ACCESS", "CTS_GROUP_ACCESS"),
            ("SQLITE_DB_PAHT", "SQLITE_DB_PATH"),
            ("sqlite_db_path", "SQLITE_DB_PATH"),
            ("\u{feff}SQLITE_DB_PATH", "SQLITE_DB_PATH"),
            ("SQLITE_DB_PATH ", "SQLITE_DB_PATH"),
            ("export PORT", "PORT"),
            ("POOL_IDLE", "CTS_POOL_IDLE"),
            ("LOCK_TIMEOUT", "CTS_LOCK_TIMEOUT"),
        ] {
            let all = sentences(&[(name, "x")]);
            assert!(all.len() == 1 && all[0].contains(&format!("is {nearest} meant?")), "{all:?}");
        }
        let all = sentences(&[("CTS_QQQ", "x")]);
        assert!(all[0].contains("`cts --help` lists all"), "{all:?}");
    }

    #[test]
    fn variables_of_other_programs_are_not_spoken_of() {
        let others = [
            ("PATH", "/bin"),
            ("HOSTNAME", "box"),
            ("SQLITE_TMPDIR", "/tmp"),
            ("DATABASE_HOST", "x"),
            ("DATABASE_URL", "x"),
            ("DATABASE_URLS", "x"),
            ("CTS_PORT", "tcp://10.0.0.7:3000"),
            ("CTS_PORT_3000_TCP_ADDR", "10.0.0.7"),
            ("CTS_SERVICE_HOST", "10.0.0.7"),
            ("HTTP_PORT", "1"),
        ];
        assert_eq!(sentences(&others), [""; 0]);
    }
}
