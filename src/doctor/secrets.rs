//! Who can read the secrets: those of this run, and those of the units, wherever their settings put them. No secret is
//! shown.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{SERVICE_FILE, SERVICE_UNIT};
use crate::store::finding::{Finding, Group};
use crate::system::environment_file::EnvironmentFile;
use crate::system::shell::word;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};
use crate::system::unit_file::{UnitFiles, UnitSetting, without_specifiers, words};
use crate::system::users;

/// Replication beside cts, which may be given keys.
const REPLICATION: &str = "litestream.service";
/// Where systemd passes credentials, readable for the user of the unit only.
const CREDENTIALS: &str = "/run/credentials";
const ELSEWHERE: &str =
    "or move it to a file that only root can read: LoadCredential=, drop-in 4 in systemctl cat cts";

/// Examines what the settings of the units hold and name.
pub fn of_units() -> Vec<Finding> {
    let mut seen = SecretFiles::default();
    // Backups, copies off the machine, and second services.
    let others = UnitFiles::services("cts-");
    for unit in [SERVICE_UNIT, REPLICATION].into_iter().chain(others.iter().map(String::as_str)) {
        match UnitFiles::read(unit) {
            Ok(Some(files)) => seen.add_unit(unit, &files),
            // Another manager of services may start cts with this file.
            Ok(None) if unit == SERVICE_UNIT => {
                seen.add_environment_file(unit, Path::new(SERVICE_FILE))
            }
            // What this user cannot read is not readable for all.
            _ => {}
        }
    }
    seen.findings
}

/// The findings of the files with secrets, one for each file.
#[derive(Default)]
struct SecretFiles {
    paths: BTreeSet<PathBuf>,
    findings: Vec<Finding>,
}

impl SecretFiles {
    fn add_unit(&mut self, unit: &str, files: &UnitFiles) {
        for setting in files.values("Environment") {
            self.add_variables(unit, setting);
        }
        for setting in files.values("EnvironmentFile") {
            let path = setting.value.trim_start_matches('-');
            if let Some(path) = without_specifiers(unit, path) {
                self.add_environment_file(unit, Path::new(&path));
            }
        }
        for setting in files.values("LoadCredential") {
            if let Some((id, path)) = setting.value.split_once(':') {
                self.add_file(unit, id, path);
            }
        }
    }

    /// Systemd shows the variables of a unit to every user, whatever the mode of the file is that sets them. (systemd.exec(5))
    fn add_variables(&mut self, unit: &str, setting: &UnitSetting) {
        for word in words(&setting.value).unwrap_or_default() {
            let Some((name, value)) = word.split_once('=') else { continue };
            if is_secret(name, value) {
                let what = format!(
                    "{} has {name} in Environment=: every user can read it, by systemctl show {unit}",
                    setting.file.display()
                );
                let finding = Finding::attention(Group::Credentials, &of_unit(unit), what).remedy(
                    "move it to a file that only root can read: LoadCredential=, drop-ins 4 and 5 in systemctl cat cts",
                );
                self.findings.push(finding);
            } else if names_secret_file(name) {
                let path = without_specifiers(unit, value);
                path.iter().for_each(|path| self.add_file(unit, name, path));
            }
        }
    }

    fn add_environment_file(&mut self, unit: &str, path: &Path) {
        let bytes = small_file::read(path, SETTINGS_BYTES_MAX).unwrap_or_default();
        let assignments = EnvironmentFile::parse(&bytes).unwrap_or_default().assignments;
        let secrets = assignments.iter().filter(|(name, value)| is_secret(name, value));
        let secrets: Vec<&str> = secrets.map(|(name, _)| name.as_str()).collect();
        if !secrets.is_empty() && self.paths.insert(path.to_path_buf()) {
            self.findings.push(environment_file(unit, path, &secrets.join(", ")));
        }
        for (name, path) in assignments.iter().filter(|(name, _)| names_secret_file(name)) {
            self.add_file(unit, name, path);
        }
    }

    /// Adds the file of one secret, if it is known where it is.
    fn add_file(&mut self, unit: &str, name: &str, path: &str) {
        let path = Path::new(path);
        let is_examined = path.is_absolute()
            && !path.starts_with(CREDENTIALS)
            && path.try_exists().is_ok_and(|exists| exists);
        if is_examined && self.paths.insert(path.to_path_buf()) {
            let found = secret_file(&of_unit(unit), path, FilePermissions::read(path).as_ref());
            self.findings.push(Finding { what: format!("{name}: {}", found.what), ..found });
        }
    }
}

fn of_unit(unit: &str) -> String {
    format!("secrets of {unit}")
}

fn environment_file(unit: &str, path: &Path, secrets: &str) -> Finding {
    let found = secret_file(&of_unit(unit), path, FilePermissions::read(path).as_ref());
    let remedy = found.remedy.as_ref().map(|remedy| format!("{remedy}, {ELSEWHERE}"));
    Finding { what: format!("{secrets} in {}", found.what), remedy, ..found }
}

/// Whether a variable holds a secret: by its name, or because it is a URL with a password.
fn is_secret(name: &str, value: &str) -> bool {
    let is_name = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|part| name.ends_with(part))
        || name.ends_with("_KEY");
    !value.is_empty() && (is_name || has_password(value))
}

fn names_secret_file(name: &str) -> bool {
    let secret = name.strip_suffix("_FILE");
    secret.is_some_and(|secret| secret == "DATABASE_URL" || is_secret(secret, "x"))
}

/// Whether a URL has a password, before its host or as a parameter.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let is_given = |(_, password): (&str, &str)| !password.is_empty();
    user.split_once(':').is_some_and(is_given) || rest.contains("password=")
}

/// Who may read and write a file.
pub struct FilePermissions {
    mode: u32,
    owner: String,
}

impl FilePermissions {
    /// `None` if the file system does not report them.
    pub fn read(path: &Path) -> Option<FilePermissions> {
        let meta = fs::metadata(path).ok()?;
        Some(FilePermissions { mode: meta.mode() & 0o777, owner: users::name(meta.uid()) })
    }
}

/// Judges a file with a secret. One that systemd passes (LoadCredential=) has mode 0440.
pub fn secret_file(name: &str, path: &Path, permissions: Option<&FilePermissions>) -> Finding {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::finding::Grade;

    /// Writes a file of this mode.
    fn written(path: PathBuf, mode: u32, text: &str) -> PathBuf {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// The findings of a unit with these lines.
    fn found(lines: &str) -> Vec<Finding> {
        let mut unit = UnitFiles::default();
        unit.add("local.conf".into(), format!("[Service]\n{lines}").as_bytes());
        let mut seen = SecretFiles::default();
        seen.add_unit(SERVICE_UNIT, &unit);
        let shown = format!("{:?}", seen.findings);
        assert!(!shown.contains("not-to-be-shown"), "{shown}");
        seen.findings
    }

    #[test]
    fn a_secret_in_a_file_that_other_users_can_read_needs_attention() {
        let folder = tempfile::TempDir::new().unwrap();
        for (text, is_secret) in [
            ("CTS_ADMIN_TOKEN=not-to-be-shown\n", true),
            ("DATABASE_URL=postgresql://u:not-to-be-shown@h/d\n", true),
            ("DATABASE_URL=postgresql://h/d?user=u&password=not-to-be-shown\n", true),
            ("RESTIC_PASSWORD=not-to-be-shown\nPORT=1\n", true),
            ("LITESTREAM_SECRET_ACCESS_KEY=not-to-be-shown\n", true),
            ("DATABASE_URL=postgresql://u@h1:1,h2:2/d\n", false),
            ("#CTS_ADMIN_TOKEN=not-to-be-shown\nCTS_ADMIN_TOKEN=\nPORT=1\n", false),
            ("CTS_ADMIN_TOKEN_FILE=/no/such/file\n", false),
        ] {
            for (mode, grade) in
                [(0o644, Grade::Attention), (0o604, Grade::Attention), (0o640, Grade::Good)]
            {
                let file = written(folder.path().join("cts"), mode, text);
                let all = found(&format!("EnvironmentFile=-{}", file.display()));
                let grades: Vec<Grade> = all.iter().map(|finding| finding.grade).collect();
                assert_eq!(grades, vec![grade; usize::from(is_secret)], "{text} {mode:o} {all:?}");
            }
        }
    }

    #[test]
    fn a_file_of_one_secret_that_other_users_can_read_needs_attention() {
        let folder = tempfile::TempDir::new().unwrap();
        let token = folder.path().join("token");
        let settings = written(
            folder.path().join("cts"),
            0o644,
            &format!("CTS_ADMIN_TOKEN_FILE={}\n", token.display()),
        );
        for lines in [
            format!("EnvironmentFile={}", settings.display()),
            format!("Environment=DATABASE_URL_FILE={}", token.display()),
            format!(
                "LoadCredential=admin-token:{0}\nEnvironment=CTS_ADMIN_TOKEN_FILE=%d/admin-token",
                token.display()
            ),
        ] {
            for (mode, grade) in [(0o644, Grade::Attention), (0o600, Grade::Good)] {
                written(token.clone(), mode, "not-to-be-shown");
                let all = found(&lines);
                assert_eq!((all.len(), all[0].grade), (1, grade), "{lines} {all:?}");
                let remedy = all[0].remedy.as_deref();
                assert_eq!(
                    remedy.is_some_and(|remedy| remedy.starts_with("chmod 600 ")),
                    mode == 0o644
                );
            }
        }
    }

    #[test]
    fn a_secret_in_the_variables_of_a_unit_is_readable_for_all() {
        for (lines, count) in [
            ("Environment=CTS_ADMIN_TOKEN=not-to-be-shown", 1),
            ("Environment=PORT=1 \"DATABASE_URL=postgresql://u:not-to-be-shown@h/d\"", 1),
            ("Environment=CTS_ADMIN_TOKEN=not-to-be-shown\nEnvironment=", 0),
            ("Environment=CTS_ADMIN_TOKEN_FILE=%d/admin-token\nLoadCredential=admin-token", 0),
        ] {
            let all = found(lines);
            assert_eq!(all.len(), count, "{lines} {all:?}");
            let is_judged = |finding: &Finding| {
                finding.grade == Grade::Attention && finding.what.starts_with("local.conf has ")
            };
            assert!(all.iter().all(is_judged), "{all:?}");
        }
    }

    #[test]
    fn modes_decide_who_can_read_a_secret() {
        for (mode, grade) in [
            (0o600, Grade::Good),
            (0o440, Grade::Good),
            (0o640, Grade::Good),
            (0o644, Grade::Attention),
            (0o660, Grade::Attention),
        ] {
            let permissions = FilePermissions { mode, owner: "cts".into() };
            let path = Path::new("/etc/cts/token");
            let found = secret_file("CTS_ADMIN_TOKEN_FILE", path, Some(&permissions));
            assert_eq!(found.grade, grade, "{mode:o}");
        }
    }

    #[test]
    fn a_secret_whose_mode_is_unknown_is_not_taken_for_a_safe_one() {
        let found = secret_file("CTS_ADMIN_TOKEN_FILE", Path::new("/run/token"), None);
        assert_eq!(found.grade, Grade::Skipped);
    }
}
