//! The Debian package as those look at it who take packages into a distribution: lintian, the documents that Debian asks for,
//! and the files with their rights. It needs no machine of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::install::packages;

/// Tags that may stay, each with its reason. None of them is a warning or an error.
const ACCEPTED: [(&str, &str); 3] = [
    ("package-supports-alternative-init-but-no-init.d-script", "the package depends on systemd"),
    (
        "hardening-no-fortify-functions",
        "Rust's library and SQLite call the functions in question through pointers",
    ),
    ("spelling-error-in-binary", "machine code and tables of Unicode that look like words"),
];

/// The files of the package in a folder, with its control files in `DEBIAN`.
fn unpacked() -> Option<(TempDir, PathBuf)> {
    let package = package(&packages()?, "deb");
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    output(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&root));
    Some((folder, root))
}

/// The file in the folder of packages that has this extension.
fn package(packages: &Path, extension: &str) -> PathBuf {
    let mut paths = fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|is| is == extension)).unwrap()
}

/// What a command prints that succeeds.
fn output(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
#[ignore = "sweep"]
fn lintian_finds_neither_errors_nor_warnings() {
    let Some(packages) = packages() else { return };
    let mut command = Command::new("lintian");
    command.args([
        "--fail-on",
        "error,warning",
        "--display-info",
        "--pedantic",
        "--color",
        "never",
    ]);
    command.args(["--tag-display-limit", "0", "--allow-root"]).arg(package(&packages, "deb"));
    let Ok(output) = command.output() else {
        return crate::support::not_tried("lintian is not installed (tests/run.sh installs it)");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{stderr}");
    let is_accepted =
        |line: &&str| ACCEPTED.iter().any(|(tag, _)| line.contains(&format!(" {tag} ")));
    let others: Vec<&str> = said.lines().filter(|line| !is_accepted(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
#[ignore = "sweep"]
fn the_copyright_file_names_every_library_and_has_every_licence() {
    let Some((_folder, root)) = unpacked() else { return };
    let copyright = read(root.join("usr/share/doc/cts/copyright"));
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package=cts", "--edges=normal,no-proc-macro"]);
    tree.arg("--features=postgres");
    let tree =
        output(tree.args(["--target=x86_64-unknown-linux-gnu", "--prefix=none", "--format={p}"]));
    let mut count = 0;
    for line in tree.lines().filter(|line| !line.is_empty() && !line.starts_with("cts")) {
        let (name, version) = line.split_once(" v").unwrap();
        let version = version.split(' ').next().unwrap();
        let files = format!("Files: vendor/{name}-{version}/*\nCopyright: ");
        assert!(copyright.contains(&files), "{name} {version} is not in the file");
        count += 1;
    }
    assert!(count > 50, "only {count} libraries: {tree}");

    let paragraphs: Vec<&str> = copyright.split("\n\n").collect();
    let texts = paragraphs.iter().filter_map(|paragraph| paragraph.strip_prefix("License: "));
    let texts: BTreeSet<&str> = texts.filter_map(|text| Some(text.split_once('\n')?.0)).collect();
    let refers =
        |paragraph: &&&str| paragraph.starts_with("Files: ") && !paragraph.contains("\n .\n");
    for paragraph in paragraphs.iter().filter(refers) {
        let (_, names) = paragraph.trim_end().rsplit_once("\nLicense: ").unwrap();
        for name in names.split(" and ") {
            assert!(texts.contains(name), "the text of {name} is not in the file: {paragraph}");
        }
    }
    assert!(copyright.contains("/sqlite3/*\nCopyright: none"), "SQLite is not in the file");
}

#[test]
#[ignore = "sweep"]
fn the_changelog_of_debian_has_every_change() {
    let Some((_folder, root)) = unpacked() else { return };
    let changelog = output(Command::new("zcat").arg(root.join("usr/share/doc/cts/changelog.gz")));
    let file = root.join("changelog");
    fs::write(&file, &changelog).unwrap();
    let mut parse = Command::new("dpkg-parsechangelog");
    let parsed = output(parse.arg("--file").arg(file).args(["--show-field", "Version"]));
    let control = read(root.join("DEBIAN/control"));
    assert!(control.contains(&format!("\nVersion: {parsed}")), "{parsed}: {control}");

    let ours = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md"));
    let changes =
        |text: &str, sign: &str| text.lines().filter(|line| line.starts_with(sign)).count();
    assert_eq!(changes(&changelog, "    - "), changes(&ours, "- "));
    let words =
        |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ");
    let last = ours.rsplit("\n- ").next().unwrap();
    assert!(words(&changelog).contains(&words(last).replace('`', "\"")), "{last}");
    let long = changelog.lines().find(|line| line.chars().count() > 80);
    assert_eq!(long, None);
}

#[test]
#[ignore = "sweep"]
fn files_in_the_package_are_those_of_root_with_usual_modes_and_checksums() {
    let Some((_folder, root)) = unpacked() else { return };
    let package = package(&packages().unwrap(), "deb");
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(package));
    let mut files = BTreeSet::new();
    for line in list.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, .., path] = fields.as_slice() else { panic!("{line}") };
        let path = path.trim_start_matches("./");
        let is_program = path.starts_with("usr/bin/") || path.starts_with("usr/lib/cts/");
        let expected = match path.is_empty() || path.ends_with('/') {
            true => "drwxr-xr-x",
            false if is_program => "-rwxr-xr-x",
            false => "-rw-r--r--",
        };
        assert_eq!((*mode, *owner), (expected, "root/root"), "{path}");
        if !expected.starts_with('d') {
            files.insert(path.to_string());
        }
    }
    output(
        Command::new("md5sum").args(["--check", "--strict", "DEBIAN/md5sums"]).current_dir(&root),
    );
    let sums = read(root.join("DEBIAN/md5sums"));
    let mut known: BTreeSet<String> = sums.lines().map(|line| line[34..].to_string()).collect();
    let settings = read(root.join("DEBIAN/conffiles"));
    known.extend(settings.lines().map(|line| line.trim_start_matches('/').to_string()));
    assert_eq!(known, files);
}

#[test]
#[ignore = "sweep"]
fn the_man_page_names_the_units_and_folders_of_the_package() {
    let Some((_folder, root)) = unpacked() else { return };
    let page = output(Command::new("zcat").arg(root.join("usr/share/man/man1/cts.1.gz")));
    let (_, files) = page.split_once(".SH FILES").unwrap();
    let files = files.split(".SH ").next().unwrap().replace('\\', "");
    let folders = [
        "etc/default",
        "usr/lib/systemd/system",
        "usr/lib/cts",
        "usr/lib/sysusers.d",
        "usr/lib/tmpfiles.d",
    ];
    for folder in folders {
        assert!(files.contains(&format!("/{folder}/")), "/{folder} is not in the man page");
        // What is in there is no business of an operator, but for what the entry names.
        if folder == "usr/lib/cts" {
            continue;
        }
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(files.contains(&name), "/{folder}/{name} is not in the man page");
        }
    }
}

#[test]
#[ignore = "sweep"]
fn links_of_the_pages_lead_to_files_of_the_package() {
    let Some((_folder, root)) = unpacked() else { return };
    let pages = root.join("usr/share/doc/cts");
    let mut count = 0;
    for folder in [pages.clone(), pages.join("docs")] {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for page in entries.filter(|path| path.extension().is_some_and(|is| is == "md")) {
            let text = read(&page);
            let text: String = text.split('`').step_by(2).collect();
            for link in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap())
            {
                if !link.is_empty() && !link.starts_with("https://") {
                    assert!(folder.join(link).exists(), "{}: {link}", page.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 60, "only {count} links");
}

#[test]
#[ignore = "sweep"]
fn the_archive_has_the_documents_of_the_package() {
    let Some((_folder, root)) = unpacked() else { return };
    let folder = TempDir::new().unwrap();
    let archive = package(&packages().unwrap(), "gz");
    let mut unpack = Command::new("tar");
    unpack.args(["--strip-components=1", "-xzf"]).arg(archive).arg("-C").arg(folder.path());
    output(&mut unpack);
    let pages = root.join("usr/share/doc/cts");
    let list = output(Command::new("find").args([".", "-type", "f"]).current_dir(&pages));
    for name in list.lines().map(|name| name.trim_start_matches("./")) {
        let (place, file) = name.split_once('/').unwrap_or(("", name));
        let there = match (place, name) {
            // CHANGELOG.md is the same, and the two binaries are not made of the same.
            (_, "changelog.gz" | "sbom.cdx.json") => continue,
            ("examples" | "litestream", _) => folder.path().join("systemd").join(file),
            _ => folder.path().join(name),
        };
        let there = fs::read(&there).unwrap_or_else(|e| panic!("{}: {e}", there.display()));
        assert!(there == fs::read(pages.join(name)).unwrap(), "{name} is another in the archive");
    }
    let copyright = read(pages.join("copyright"));
    for name in ["Apache-2.0", "LGPL-2.1"] {
        assert!(copyright.contains(&format!("licenses/{name}")));
        assert!(!read(folder.path().join("licenses").join(name)).is_empty());
    }
}
