//! The configuration: each setting with its source, what the service's own file sets beside it,
//! and who can read the secrets. No secret is shown, and none is read here.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::{Config, SecretLocation, Setting, SettingSource};
use crate::error::Error;
use crate::store::finding::{Finding, Group};
use crate::system::shell::word;
use crate::system::users;
use crate::system::version::VERSION;

/// What the unit reads its settings from, and a person at a terminal does not.
const SERVICE_FILE: &str = "/etc/default/cts";

/// Looks at the settings of this run.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut all = vec![run()];
    all.extend(config.settings.iter().map(shown));
    all.extend(service_file(Path::new(SERVICE_FILE)));
    all.extend(config.settings.iter().filter_map(secret));
    all
}

/// A configuration that no command takes.
pub fn refused(error: &Error) -> Finding {
    let seen = Finding::bad(Group::Configuration, "settings", error.message());
    Finding { remedy: error.remedy.clone(), ..seen }
}

fn run() -> Finding {
    let user = users::name(rustix::process::geteuid().as_raw());
    Finding::good(Group::Configuration, "cts", format!("{VERSION}, run by {user}"))
}

fn shown(setting: &Setting) -> Finding {
    let source = match setting.source {
        SettingSource::Flag(flag) => flag,
        SettingSource::Environment => "environment",
        SettingSource::Default => "default",
    };
    let what = format!("{} ({source})", setting.shown);
    Finding::good(Group::Configuration, setting.name, what)
}

/// Who can reach a secret.
fn secret(setting: &Setting) -> Option<Finding> {
    match setting.secret_location.as_ref()? {
        SecretLocation::Variable => Some(Finding::good(
            Group::Credentials,
            setting.name,
            "is in the environment, which its user and root can read",
        )),
        SecretLocation::File(path) => {
            let meta = fs::metadata(path).ok()?;
            Some(kept_in(setting.name, path, meta.mode(), &users::name(meta.uid())))
        }
    }
}

/// A file with a secret. What systemd hands over (LoadCredential=) is 0440.
fn kept_in(name: &str, path: &Path, mode: u32, owner: &str) -> Finding {
    let mode = mode & 0o777;
    let what = format!("{}, mode {mode:04o}, of {owner}", path.display());
    if mode & 0o027 == 0 {
        return Finding::good(Group::Credentials, name, what);
    }
    Finding::attention(Group::Credentials, name, format!("{what}: others may read or change it"))
        .remedy(format!("chmod 600 {}", word(path)))
}

/// What the service is told and this run is not.
fn service_file(path: &Path) -> Vec<Finding> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            let what = format!("holds settings of the service, and cannot be read here: {e}");
            let seen = Finding::skipped(Group::Configuration, &name, what);
            return vec![seen.remedy(as_the_service(path))];
        }
    };
    let (mode, owner) = fs::metadata(path).map_or((0, 0), |meta| (meta.mode(), meta.uid()));
    judge_service_file(path, &text, mode, &users::name(owner), &|name| env::var_os(name))
}

fn judge_service_file(
    path: &Path,
    text: &str,
    mode: u32,
    owner: &str,
    here: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<Finding> {
    let name = path.display().to_string();
    let settings = assignments(text);
    let differs = |(name, value): &&(&str, &str)| here(name).is_none_or(|given| given != **value);
    let others: Vec<&str> = settings.iter().filter(differs).map(|(name, _)| *name).collect();
    let mut all = vec![if others.is_empty() {
        let what = format!("{} settings of the service, all as in this run", settings.len());
        Finding::good(Group::Configuration, &name, what)
    } else {
        let what = format!("the service has other settings than this run: {}", others.join(", "));
        Finding::attention(Group::Configuration, &name, what).remedy(as_the_service(path))
    }];
    let is_secret = |name: &str| matches!(name, "CTS_ADMIN_TOKEN" | "DATABASE_URL");
    if settings.iter().any(|(name, _)| is_secret(name)) {
        all.push(kept_in("secrets of the service", path, mode, owner));
    }
    all
}

fn as_the_service(path: &Path) -> String {
    let file = word(path);
    format!("systemd-run --quiet --pipe --wait -p User=cts -p EnvironmentFile={file} cts doctor")
}

/// Names and values as systemd reads them (systemd.exec(5), `EnvironmentFile=`).
fn assignments(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), unquoted(value.trim())))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    const FILE: &str = "# of this box\nPORT=4000\n; no\nCTS_ADMIN_TOKEN=\"tell nobody\"\n\nodd\n";

    fn judged(mode: u32, here: &[(&str, &str)]) -> Vec<Finding> {
        judge_service_file(Path::new("/etc/default/cts"), FILE, mode, "root", &|name| {
            here.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn settings_of_the_service_that_this_run_has_not_are_named_without_their_values() {
        let all = judged(0o600, &[("PORT", "3000")]);
        assert_eq!(all[0].grade, Grade::Attention);
        assert!(all[0].what.ends_with("PORT, CTS_ADMIN_TOKEN"), "{}", all[0].what);
        assert!(all[0].remedy.as_ref().unwrap().contains("EnvironmentFile=/etc/default/cts"));
        assert!(!format!("{all:?}").contains("tell nobody"));
        let all = judged(0o600, &[("PORT", "4000"), ("CTS_ADMIN_TOKEN", "tell nobody")]);
        assert_eq!((all[0].grade, all[1].grade), (Grade::Good, Grade::Good));
    }

    #[test]
    fn a_secret_that_others_can_read_is_said() {
        for (mode, grade) in [
            (0o600, Grade::Good),
            (0o440, Grade::Good),
            (0o640, Grade::Good),
            (0o644, Grade::Attention),
            (0o660, Grade::Attention),
        ] {
            let path = Path::new("/etc/cts/token");
            let seen = kept_in("CTS_ADMIN_TOKEN_FILE", path, 0o10_0000 | mode, "cts");
            assert_eq!(seen.grade, grade, "{mode:o}");
            assert_eq!(judged(mode, &[])[1].grade, grade, "{mode:o}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_bad_with_its_remedy() {
        let error = Error::new(crate::error::Kind::Config, "PORT: no").remedy("correct PORT");
        let seen = refused(&error);
        assert_eq!((seen.grade, seen.remedy.as_deref()), (Grade::Bad, Some("correct PORT")));
    }
}
