//! The configuration: each setting with its source, the settings of the service's own file, and who can read
//! the secrets. No secret is shown, and none is read here.

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

/// The unit reads its settings from this file; a run at a terminal does not.
const SERVICE_FILE: &str = "/etc/default/cts";

/// Examines the settings of this run.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![run()];
    findings.extend(config.settings.iter().map(setting));
    findings.extend(service_file(Path::new(SERVICE_FILE)));
    findings.extend(config.settings.iter().filter_map(secret));
    findings
}

/// The finding of a configuration that every command refuses.
pub fn refused(error: &Error) -> Finding {
    let finding = Finding::bad(Group::Configuration, "settings", error.message());
    Finding { remedy: error.remedy.clone(), ..finding }
}

fn run() -> Finding {
    let user = users::name(rustix::process::geteuid().as_raw());
    Finding::good(Group::Configuration, "cts", format!("{VERSION}, run by {user}"))
}

fn setting(setting: &Setting) -> Finding {
    let source = match setting.source {
        SettingSource::Flag(flag) => flag,
        SettingSource::Environment => "environment",
        SettingSource::Default => "default",
    };
    let what = format!("{} ({source})", setting.shown);
    Finding::good(Group::Configuration, setting.name, what)
}

/// Who can read a secret.
fn secret(setting: &Setting) -> Option<Finding> {
    match setting.secret_location.as_ref()? {
        SecretLocation::Variable => Some(Finding::good(
            Group::Credentials,
            setting.name,
            "in the environment, which the user of the process and root can read",
        )),
        SecretLocation::File(path) => {
            let permissions = FilePermissions::read(path);
            Some(secret_file(setting.name, path, permissions.as_ref()))
        }
    }
}

/// Who may read and write a file.
struct FilePermissions {
    mode: u32,
    owner: String,
}

impl FilePermissions {
    /// `None` if the file system does not report them.
    fn read(path: &Path) -> Option<FilePermissions> {
        let meta = fs::metadata(path).ok()?;
        Some(FilePermissions { mode: meta.mode() & 0o777, owner: users::name(meta.uid()) })
    }
}

/// Judges a file with a secret. One that systemd passes (LoadCredential=) has mode 0440.
fn secret_file(name: &str, path: &Path, permissions: Option<&FilePermissions>) -> Finding {
    let Some(FilePermissions { mode, owner }) = permissions else {
        let what = format!("not examined: the mode of {} cannot be read", path.display());
        return Finding::skipped(Group::Credentials, name, what);
    };
    let what = format!("{}, mode {mode:04o}, of {owner}", path.display());
    if mode & 0o027 == 0 {
        return Finding::good(Group::Credentials, name, what);
    }
    Finding::attention(
        Group::Credentials,
        name,
        format!("{what}: other users may read or change it"),
    )
    .remedy(format!("chmod 600 {}", word(path)))
}

/// Compares the settings of the service's file with those of this run.
fn service_file(path: &Path) -> Vec<Finding> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            let what = format!("the settings of the service cannot be read by this user: {e}");
            let finding = Finding::skipped(Group::Configuration, &name, what);
            return vec![finding.remedy(as_the_service(path))];
        }
    };
    judge_service_file(path, &text, FilePermissions::read(path), &|name| env::var_os(name))
}

fn judge_service_file(
    path: &Path,
    text: &str,
    permissions: Option<FilePermissions>,
    here: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<Finding> {
    let name = path.display().to_string();
    let settings = assignments(text);
    let differs = |(name, value): &&(&str, &str)| here(name).is_none_or(|given| given != **value);
    let others: Vec<&str> = settings.iter().filter(differs).map(|(name, _)| *name).collect();
    let mut all = vec![if others.is_empty() {
        let what = format!("{} settings of the service, the same as in this run", settings.len());
        Finding::good(Group::Configuration, &name, what)
    } else {
        let what =
            format!("these settings of the service differ from this run's: {}", others.join(", "));
        Finding::attention(Group::Configuration, &name, what).remedy(as_the_service(path))
    }];
    let is_secret = |name: &str| matches!(name, "CTS_ADMIN_TOKEN" | "DATABASE_URL");
    if settings.iter().any(|(name, _)| is_secret(name)) {
        all.push(secret_file("secrets of the service", path, permissions.as_ref()));
    }
    all
}

fn as_the_service(path: &Path) -> String {
    let file = word(path);
    format!("systemd-run --quiet --pipe --wait -p User=cts -p EnvironmentFile={file} cts doctor")
}

/// The names and values of the file, read as systemd reads them (systemd.exec(5), `EnvironmentFile=`).
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

    const FILE: &str =
        "# of this box\nPORT=4000\n; no\nCTS_ADMIN_TOKEN=\"not to be shown\"\n\nodd\n";

    fn judged(mode: u32, here: &[(&str, &str)]) -> Vec<Finding> {
        let permissions = FilePermissions { mode, owner: "root".into() };
        judge_service_file(Path::new("/etc/default/cts"), FILE, Some(permissions), &|name| {
            here.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn settings_of_the_service_that_differ_are_named_without_their_values() {
        let all = judged(0o600, &[("PORT", "3000")]);
        assert_eq!(all[0].grade, Grade::Attention);
        assert!(all[0].what.ends_with("PORT, CTS_ADMIN_TOKEN"), "{}", all[0].what);
        assert!(all[0].remedy.as_ref().unwrap().contains("EnvironmentFile=/etc/default/cts"));
        assert!(!format!("{all:?}").contains("not to be shown"));
        let all = judged(0o600, &[("PORT", "4000"), ("CTS_ADMIN_TOKEN", "not to be shown")]);
        assert_eq!((all[0].grade, all[1].grade), (Grade::Good, Grade::Good));
    }

    #[test]
    fn a_secret_that_other_users_can_read_needs_attention() {
        for (mode, grade) in [
            (0o600, Grade::Good),
            (0o440, Grade::Good),
            (0o640, Grade::Good),
            (0o644, Grade::Attention),
            (0o660, Grade::Attention),
        ] {
            let path = Path::new("/etc/cts/token");
            let permissions = FilePermissions { mode, owner: "cts".into() };
            let found = secret_file("CTS_ADMIN_TOKEN_FILE", path, Some(&permissions));
            assert_eq!(found.grade, grade, "{mode:o}");
            assert_eq!(judged(mode, &[])[1].grade, grade, "{mode:o}");
        }
    }

    #[test]
    fn a_secret_whose_mode_is_unknown_is_not_taken_for_a_safe_one() {
        let found = secret_file("CTS_ADMIN_TOKEN_FILE", Path::new("/run/token"), None);
        assert_eq!(found.grade, Grade::Skipped);
    }

    #[test]
    fn a_wrong_configuration_is_bad_with_its_remedy() {
        let error = Error::new(crate::error::Kind::Config, "PORT: no").remedy("correct PORT");
        let found = refused(&error);
        assert_eq!((found.grade, found.remedy.as_deref()), (Grade::Bad, Some("correct PORT")));
    }
}
