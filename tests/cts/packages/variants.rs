//! Packages of other versions and contents, made of the packed one: their binaries differ in a name at
//! their end, by which a test recognises which of them is installed and which runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use tempfile::TempDir;

use super::install::packages;

/// The variants, in `Variants::folder`: each a `NAME.deb`.
pub struct Variants {
    base: PathBuf,
    pub folder: PathBuf,
}

impl Variants {
    /// `present.deb` of version 3.1.0, `older.deb` and `later.deb` with the same schema; made once in a
    /// run. `None` where no package can be made.
    pub fn make() -> Option<Variants> {
        static MADE: Once = Once::new();
        let package = fs::read_dir(packages()?).unwrap().map(|entry| entry.unwrap().path());
        let base = package.filter(|path| path.extension().is_some_and(|kind| kind == "deb"));
        let base = base.last().expect("the packed .deb");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("variants");
        let variants = Variants { base, folder };
        MADE.call_once(|| {
            let _ = fs::remove_dir_all(&variants.folder);
            fs::create_dir(&variants.folder).unwrap();
            for (name, version) in [("older", "3.0.9"), ("present", "3.1.0"), ("later", "3.1.1")] {
                variants.add(name, version, |_| ());
            }
        });
        Some(variants)
    }

    /// One whose binary is this script.
    pub fn add_script(&self, name: &str, version: &str, script: &str) {
        self.add(name, version, |tree| fs::write(tree.join("usr/bin/cts"), script).unwrap());
    }

    /// One that has this line before the first command of one of its maintainer scripts.
    pub fn add_with(&self, name: &str, version: &str, script: &str, line: &str) {
        self.add(name, version, |tree| {
            let path = tree.join("DEBIAN").join(script);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("\nset -e\n"), "{script}");
            let text = text.replacen("\nset -e\n", &format!("\nset -e\n{line}\n"), 1);
            fs::write(path, text).unwrap();
        });
    }

    fn add(&self, name: &str, version: &str, change: impl FnOnce(&Path)) {
        let tree = TempDir::new().unwrap();
        run(Command::new("dpkg-deb").arg("-R").args([&self.base, tree.path()]));
        change(tree.path());
        let binary = tree.path().join("usr/bin/cts");
        let mut bytes = fs::read(&binary).unwrap();
        bytes.extend(format!("\nvariant={name}\n").bytes());
        fs::write(&binary, bytes).unwrap();
        let control = tree.path().join("DEBIAN/control");
        let text = fs::read_to_string(&control).unwrap();
        let line = |line: &str| match line.strip_prefix("Version: ") {
            Some(_) => format!("Version: {version}\n"),
            None => format!("{line}\n"),
        };
        fs::write(&control, text.lines().map(line).collect::<String>()).unwrap();
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let to = self.folder.join(format!("{name}.deb"));
        let mut build = Command::new("dpkg-deb");
        run(build.args(["--root-owner-group", "-Zgzip", "-z1", "-b"]).args([tree.path(), &to]));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
