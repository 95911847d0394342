//! The configuration: each setting with its source, the settings of the service's own file, and who can read
//! the secrets of this run. No secret is shown, and none is read here.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use super::secrets::{FilePermissions, secret_file};
use crate::config::{
    Config, SERVICE_FILE, SecretLocation, Setting, SettingSource, notices, unknown_variables,
};
use crate::error::Error;
use crate::store::finding::{Finding, Group};
use crate::system::environment_file::EnvironmentFile;
use crate::system::shell::word;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};
use crate::system::users;
use crate::system::version::{COMMIT, VERSION};

/// Examines the settings of this run; those that have their default are shown where that is asked for.
pub fn examine(config: &Config, shows_defaults: bool) -> Vec<Finding> {
    let is_shown = |setting: &&Setting| shows_defaults || setting.source != SettingSource::Default;
    let mut findings = vec![run()];
    findings.extend(config.settings.iter().filter(is_shown).map(setting));
    findings.extend(notices(config).into_iter().map(|notice| {
        Finding::attention(Group::Configuration, "settings", notice)
            .remedy("correct the setting, if this is not meant so")
    }));
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
    Finding::good(Group::Configuration, "cts", format!("{VERSION}, commit {COMMIT}, run by {user}"))
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

/// Compares the settings of the service's file with those of this run.
fn service_file(path: &Path) -> Vec<Finding> {
    let name = path.display().to_string();
    let bytes = match small_file::read(path, SETTINGS_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            let what = format!("the settings of the service cannot be read by this user: {e}");
            let finding = Finding::skipped(Group::Configuration, &name, what);
            return vec![finding.remedy(as_the_service(path))];
        }
    };
    let Some(file) = EnvironmentFile::parse(&bytes) else {
        let what = "is not UTF-8, so that systemd ignores all of it";
        let finding = Finding::bad(Group::Configuration, &name, what);
        return vec![finding.remedy(format!("find the bytes: grep -naxv '.*' {}", word(path)))];
    };
    let mut all = ignored_names(&name, &file);
    all.push(judge_service_file(path, &file, &|name| env::var_os(name)));
    all
}

/// What the service does not get of its file: names that are none, and variables that cts does not read.
fn ignored_names(name: &str, file: &EnvironmentFile) -> Vec<Finding> {
    let ignored = file.ignored.iter().map(|given| {
        let what = format!("systemd ignores {given:?}, which is not the name of a variable");
        (what, "write NAME=value, one to a line, without export")
    });
    let unknown = unknown_variables(&file.assignments).into_iter();
    let unknown = unknown.map(|what| (what, "correct the name, or remove the line"));
    let finding = |(what, remedy): (String, &str)| {
        Finding::attention(Group::Configuration, name, what).remedy(remedy)
    };
    ignored.chain(unknown).map(finding).collect()
}

fn judge_service_file(
    path: &Path,
    file: &EnvironmentFile,
    here: &dyn Fn(&str) -> Option<OsString>,
) -> Finding {
    let name = path.display().to_string();
    let settings = &file.assignments;
    let differs =
        |(name, value): &&(String, String)| here(name).is_none_or(|given| given != **value);
    let others: Vec<&str> = settings.iter().filter(differs).map(|(name, _)| &**name).collect();
    if others.is_empty() {
        let what = format!("{} settings of the service, the same as in this run", settings.len());
        Finding::good(Group::Configuration, &name, what)
    } else {
        let what =
            format!("these settings of the service differ from this run's: {}", others.join(", "));
        Finding::attention(Group::Configuration, &name, what).remedy(as_the_service(path))
    }
}

fn as_the_service(path: &Path) -> String {
    let file = word(path);
    format!("systemd-run --quiet --pipe --wait -p User=cts -p EnvironmentFile={file} cts doctor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    const FILE: &str =
        "# of this box\nPORT=4000\n; no\nCTS_ADMIN_TOKEN=\"not to be shown\"\n\nodd\n";

    fn judged(here: &[(&str, &str)]) -> Finding {
        let file = EnvironmentFile::parse(FILE.as_bytes()).unwrap();
        judge_service_file(Path::new("/etc/default/cts"), &file, &|name| {
            here.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn settings_of_the_service_that_differ_are_named_without_their_values() {
        let found = judged(&[("PORT", "3000")]);
        assert_eq!(found.grade, Grade::Attention);
        assert!(found.what.ends_with("PORT, CTS_ADMIN_TOKEN"), "{}", found.what);
        assert!(found.remedy.as_ref().unwrap().contains("EnvironmentFile=/etc/default/cts"));
        assert!(!format!("{found:?}").contains("not to be shown"));
        let same = [("PORT", "4000"), ("CTS_ADMIN_TOKEN", "not to be shown")];
        assert_eq!(judged(&same).grade, Grade::Good);
    }

    #[test]
    fn what_the_service_does_not_get_of_its_file_needs_attention() {
        let text = b"export PORT=1\nCTS_GROUP_ACESS=1\nPORT=2\n";
        let all = ignored_names("file", &EnvironmentFile::parse(text).unwrap());
        let what: Vec<&str> = all.iter().map(|found| found.what.as_str()).collect();
        assert!(what[0].contains("ignores \"export PORT\""), "{what:?}");
        assert!(what[1].contains("is CTS_GROUP_ACCESS meant?"), "{what:?}");
        assert_eq!((all.len(), all[0].grade), (2, Grade::Attention));
    }

    #[test]
    fn a_wrong_configuration_is_bad_with_its_remedy() {
        let error = Error::new(crate::error::Kind::Config, "PORT: no").remedy("correct PORT");
        let found = refused(&error);
        assert_eq!((found.grade, found.remedy.as_deref()), (Grade::Bad, Some("correct PORT")));
    }
}
