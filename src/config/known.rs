//! The names of all settings, and the variables that look as if they were meant for cts and are not read.

/// The names of all environment variables that configure cts.
pub const VARIABLES: [&str; 17] = [
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

/// A sentence for each variable that is not read although its name shows that it was meant for cts: an unknown
/// name that begins with `CTS_`, or one that is nearly that of a setting which is not set.
pub fn unknown_variables(variables: &[(String, String)]) -> Vec<String> {
    let is_set =
        |name: &str| variables.iter().any(|(known, value)| known == name && !value.is_empty());
    let sentence = |(name, value): &(String, String)| {
        if VARIABLES.contains(&name.as_str()) || is_service_link(name, value) {
            return None;
        }
        let nearest = nearest(name);
        if !cleaned(name).starts_with(PREFIX) {
            let (known, similarity) = nearest?;
            let is_variant = cleaned(name) == known;
            let is_meant = is_variant || (similarity >= 0.95 && known.len() >= 12);
            return (is_meant && !is_set(known)).then(|| not_read(name, Some(known)));
        }
        Some(not_read(name, nearest.map(|(known, _)| known)))
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

/// The most similar name of a setting, and how similar it is.
fn nearest(name: &str) -> Option<(&'static str, f64)> {
    let name = cleaned(name);
    let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_string();
    let similarity = |known: &str| {
        let (given, known) = (own(&name), own(known));
        let is_part = given.len() > 3 && (known.ends_with(&given) || given.ends_with(&known));
        let similarity = strsim::jaro_winkler(&given, &known);
        if is_part { similarity.max(SIMILAR) } else { similarity }
    };
    VARIABLES
        .iter()
        .map(|known| (*known, similarity(known)))
        .filter(|(_, similarity)| *similarity >= RELATED)
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
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
