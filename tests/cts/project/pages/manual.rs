//! The man page: made by the program that a release runs, and read by `mandoc`.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::{page, quoted, root};

/// The page, as a release makes it.
fn manual() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--package", "cts-release", "--bin", "pages", "--"])
        .arg(folder.path())
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(folder.path().join("cts.1")).unwrap();
    (folder, text)
}

#[test]
fn the_man_page_passes_mandoc_and_has_what_the_pages_have() {
    let (folder, text) = manual();
    let path = folder.path().join("cts.1");
    let lint = Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(&path).output();
    let lint = lint.expect("mandoc is not installed (tests/run.sh installs it)");
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));

    let sections = text.lines().filter_map(|line| line.strip_prefix(".SH "));
    let sections: Vec<&str> = sections.map(|name| name.trim_matches('"')).collect();
    let expected = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "SEE ALSO",
    ];
    assert_eq!(sections, expected);

    // An argument that is no flag is named by its placeholder.
    let name = |line: &str| line.strip_prefix("\\fB")?.split("\\fR  ").next().map(String::from);
    let arguments: Vec<String> = text.lines().filter_map(name).collect();
    for (argument, is_there) in [("FILE", true), ("OBJECT", true), ("\\-\\-", false)] {
        let found = arguments.iter().any(|found| found == argument);
        assert_eq!(found, is_there, "{argument}: {arguments:?}");
    }

    // Every variable that is a setting, and every exit code.
    let terms: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("\\fB")).collect();
    let has = |term: &str| terms.iter().any(|found| found.trim_end_matches("\\fR") == term);
    let configuration = page("docs/configuration.md");
    let settings = configuration.prose().into_iter().take_while(|line| *line != "## Output");
    for row in settings.filter(|line| line.starts_with("| `")) {
        for name in quoted(row.split('|').nth(1).unwrap()) {
            assert!(has(name), "{name} is not in the man page");
        }
        assert_same_defaults(&text, row);
    }
    let commands = page("docs/commands.md");
    let rows = commands.prose().into_iter().filter_map(|line| line.strip_prefix("| "));
    for code in rows.filter_map(|row| row.split(" |").next()?.parse::<u8>().ok()) {
        assert!(has(&code.to_string()), "exit code {code} is not in the man page");
    }
}

/// Compares the defaults in a row of the table with those in the man page, which has them from the
/// program.
fn assert_same_defaults(manual: &str, row: &str) {
    let cells: Vec<&str> = row.split('|').collect();
    let [_, names, _, defaults, ..] = cells.as_slice() else { panic!("{row}") };
    // A default that depends on something is a sentence.
    let [names, defaults] = [quoted(names), quoted(defaults)];
    if names.len() != defaults.len() {
        return;
    }
    for (name, default) in names.iter().zip(defaults) {
        let entry = manual.split(&format!("\\fB{name}\\fR\n")).nth(1).unwrap();
        let entry = entry.lines().next().unwrap().replace('\\', "");
        let is_same = entry.ends_with(&format!("Default: {default}."));
        assert!(is_same, "the default of {name} is {default} in docs/configuration.md: {entry}");
    }
}
