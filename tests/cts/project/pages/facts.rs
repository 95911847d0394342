//! What the pages state about the program, compared with the program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{files_below, page, quoted, read};
use crate::support::harness::{Machine, await_that};

const README_LINES_MAX: usize = 150;

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines");
}

fn help() -> String {
    Machine::new().cts("--help").success().out()
}

/// Words in capitals that `--help` has, and the settings that `cts doctor` lists.
fn variables() -> BTreeSet<String> {
    let help = help();
    let words = help.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    let is_variable = |word: &&str| {
        word.starts_with("CTS_")
            || word.starts_with("DATABASE_")
            || matches!(*word, "SQLITE_DB_PATH" | "HOST" | "PORT")
    };
    let mut variables: BTreeSet<String> = words.filter(is_variable).map(Into::into).collect();
    let examined = Machine::migrated().cts("doctor --json --port 0").run().json();
    let findings = examined["findings"].as_array().unwrap().iter();
    let settings = findings.filter(|finding| finding["group"] == "configuration");
    let names = settings.map(|finding| finding["name"].as_str().unwrap());
    variables.extend(names.filter(|name| !name.contains(char::is_lowercase)).map(Into::into));
    assert!(variables.len() > 12, "{variables:?}");
    variables
}

#[test]
fn every_environment_variable_is_documented() {
    let page = page("docs/configuration.md");
    let rows = page.prose().into_iter().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<&str> =
        rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap())).collect();
    for variable in variables() {
        assert!(documented.contains(&*variable), "{variable} is not in {documented:?}");
    }
}

#[test]
fn every_flag_is_documented() {
    let helps = ["", "serve", "migrate", "status", "verify", "repair", "copy", "prune", "doctor"]
        .map(|command| Machine::new().cts(&format!("{command} --help")).success().out());
    let helps = helps.concat();
    let words = helps.split(|c: char| !c.is_ascii_lowercase() && c != '-');
    let flags: BTreeSet<&str> = words.filter(|word| word.starts_with("--")).collect();
    assert!(flags.len() > 9, "{flags:?}");
    let pages = read("docs/commands.md") + &read("docs/configuration.md");
    for flag in flags.into_iter().filter(|flag| *flag != "--features") {
        let is_there = pages.match_indices(flag).any(|(at, _)| {
            !pages[at + flag.len()..].starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
        });
        assert!(is_there, "{flag} is not documented");
    }
}

/// The exit codes that the help names.
fn exit_codes() -> BTreeSet<u8> {
    let help = help();
    let codes = &help[help.find("Exit codes").unwrap()..];
    let codes: BTreeSet<u8> =
        codes.split(|c: char| !c.is_ascii_digit()).filter_map(|code| code.parse().ok()).collect();
    assert!(codes.len() > 10, "{codes:?}");
    codes
}

#[test]
fn every_exit_code_is_documented() {
    let page = page("docs/commands.md");
    let rows = page.prose().into_iter().filter_map(|line| line.strip_prefix("| "));
    let first = rows.filter_map(|row| row.split(" |").next()?.parse::<u8>().ok());
    let documented: BTreeSet<u8> = first.collect();
    assert_eq!(documented, exit_codes());
}

/// The sources, with literals that go on in the next line put together.
fn sources() -> String {
    let files = ["src", "schema/src"].map(files_below).concat();
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let text = texts.collect::<String>();
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap().to_string();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn quoted_messages_are_those_of_the_program() {
    let sources = sources();
    let page = page("docs/troubleshooting.md");
    let mut count = 0;
    for heading in page.headings().into_iter().filter(|heading| heading.starts_with('`')) {
        for part in quoted(heading).into_iter().filter(|part| *part != "SQLITE_BUSY") {
            assert!(sources.contains(part), "no message contains {part:?}");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} messages");
}

/// The paths of all keys in an object, those of a list's first item with it.
fn keys(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = format!("{path}.{key}");
                all.insert(path.clone());
                keys(value, &path, all);
            }
        }
        Value::Array(items) => items.iter().take(1).for_each(|item| keys(item, path, all)),
        _ => {}
    }
}

#[test]
fn json_examples_have_the_keys_of_the_answers() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let service = machine.serve().start();
    service.until_ready();
    let health = "/api/health/database";
    await_that("the backup is seen", || service.get(health).json()["backups"]["count"] == 1);
    let examples = [
        ("README.md", vec![health]),
        ("docs/http.md", vec![health, "/api/admin/migrations/status", "/api/admin/overview"]),
    ];
    for (name, paths) in examples {
        let blocks = page(name).blocks().into_iter().filter(|block| block.language == "json");
        for (path, block) in paths.iter().zip(blocks) {
            let example: Value = serde_json::from_str(&block.text)
                .unwrap_or_else(|e| panic!("{name}:{}: {e}", block.line));
            let (mut shown, mut answered) = (BTreeSet::new(), BTreeSet::new());
            keys(&example, "", &mut shown);
            keys(&service.get(path).json(), "", &mut answered);
            // The example of the status, where categories are keys, shows one of seven.
            answered.retain(|key| {
                !key.contains(".categories.")
                    || key.contains(".system")
                    || path.ends_with("overview")
            });
            assert_eq!(shown, answered, "{name}: {path}");
        }
    }
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn the_json_example_of_a_dry_run_is_what_one_prints() {
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time");
    let planned = machine.cts("migrate --dry-run --json").success().json();
    let page = page("docs/commands.md");
    let example = page.blocks().into_iter().find(|block| block.language == "json").unwrap();
    let mut example: Value = serde_json::from_str(&example.text).unwrap();
    example["database"]["location"] = machine.db().display().to_string().into();
    assert_eq!(planned, example);
    // Each action that a step can have is in the table.
    let source = read("src/migrate/step.rs");
    let source = &source[source.find("fn name(").unwrap()..source.find("fn object(").unwrap()];
    let names = source.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(page.text.contains(&format!("`{name}`")), "action {name} is not documented");
    }
}

/// A line with each number in it as one `0`, and each run of blanks as one.
fn without_numbers(line: &str) -> String {
    let mut shown = String::new();
    for c in line.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        match (is_number(c), shown.ends_with('0')) {
            (true, true) => {}
            (true, false) => shown.push('0'),
            (false, _) => shown.push(c),
        }
    }
    shown
}

/// A machine on which positions were closed in the last days.
fn traded() -> Machine {
    let machine = Machine::migrated();
    let mut sql =
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('main', 'Main', 'x');"
            .to_string();
    for (symbol, profits) in [
        ("BTCUSDT", &[12.5, -4.25, 0.0, 21.75, -6.5, 18.0, -3.25, 9.5][..]),
        ("ETHUSDT", &[-7.5, 5.25, 8.0, -2.75, 11.25, 3.5]),
        ("SOLUSDT", &[6.25, -9.5, 4.0, -8.75, -2.5]),
    ] {
        for (at, profit) in profits.iter().enumerate() {
            let (ago, hour) = (3 - at / 3, 7 + 5 * (at % 3));
            sql += &format!(
                "INSERT INTO pseudo_positions (connection_id, symbol, status, opened_at, closed_at, profit_loss) \
                 SELECT 'main', '{symbol}', 'closed', day || ' {:02}:15:00', day || ' {hour:02}:30:00', {profit} \
                 FROM (SELECT date('now', '-{ago} days') AS day);",
                hour - 1
            );
        }
    }
    machine.sql(&sql);
    machine
}

#[test]
fn shown_output_is_that_of_the_program() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    fs::set_permissions(machine.db(), fs::Permissions::from_mode(0o644)).unwrap();
    let folder = machine.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let user = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let is_user = |line: &&str| line.split(':').nth(2) == Some(&user.to_string());
    let user = passwd.lines().find(is_user).and_then(|line| line.split(':').next()).unwrap();
    let incomplete = Machine::migrated();
    incomplete.cts("backup").success();
    incomplete.sql(
        "DROP TABLE site_logs; DROP TABLE exchange_positions; DROP TABLE statistics_daily; \
         DROP INDEX idx_pseudo_positions_live; ALTER TABLE users DROP COLUMN role",
    );
    let traded = traded();
    let printed = [
        (&traded, "stats --days 7 --by symbol"),
        (&machine, "status"),
        (&machine, "--check"),
        (&machine, "doctor --port 0"),
        (&incomplete, "--check"),
        (&machine, "--check --ready"),
    ]
    // Nothing listens on this port.
    .map(|(machine, words)| {
        machine.cts(words).env("PORT", "1").env("LC_ALL", "C.UTF-8").run().out()
    });
    let printed =
        printed.concat().replace(folder, "/data").replace(&format!("owner {user}"), "owner cts");
    let printed: Vec<String> = printed.lines().map(without_numbers).collect();
    let mut count = 0;
    for name in ["README.md", "docs/commands.md"] {
        let blocks = page(name).blocks().into_iter().filter(|block| block.language == "text");
        for block in blocks.filter(|block| !block.text.contains('┌')) {
            for line in block.text.lines().filter(|line| line.trim() != "…") {
                let is_printed = printed.contains(&without_numbers(line));
                assert!(is_printed, "{name}: {line:?} is not in:\n{}", printed.join("\n"));
                count += 1;
            }
        }
    }
    assert!(count > 8, "only {count} lines");
}
