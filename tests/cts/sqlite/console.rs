//! What a person at a terminal sees: colour, what was made, sums instead of lists, and quiet.

use std::fs;
use std::path::Path;

use crate::support::harness::{Done, Machine, Run};
use crate::support::older_databases::Old;

/// Runs cts with standard output and standard error where `redirect` says, on a terminal else.
fn on_terminal(machine: &Machine, words: &str, redirect: &str, variable: (&str, &str)) -> Done {
    let mut run = Run::of(Path::new("/usr/bin/script"), "-qec");
    let program = env!("CARGO_BIN_EXE_cts");
    run.command.arg(format!("{program} {words} {redirect}")).arg("/dev/null");
    run.db(&machine.db()).env("TERM", "xterm").env(variable.0, variable.1).run()
}

const NOTHING: (&str, &str) = ("LC_ALL", "C.UTF-8");
const GREEN: &str = "\x1b[32m✓\x1b[0m ";

#[test]
fn signs_are_coloured_on_a_terminal_that_shows_it_and_nowhere_else() {
    let machine = Machine::migrated();
    let seen = |words, redirect, variable| on_terminal(&machine, words, redirect, variable).out();
    let log = seen("migrate", "", NOTHING);
    assert!(log.contains(&format!("[v0] {GREEN}All 22 critical tables verified")), "{log}");
    // The journal of a service that started this shell is not where a terminal writes.
    let log = seen("migrate", "", ("JOURNAL_STREAM", "1:2"));
    assert!(log.contains(GREEN), "{log}");
    assert!(seen("doctor", "", NOTHING).contains(&format!("  {GREEN}cts: 3.1.0")));
    assert!(seen("migrate", "", ("NO_COLOR", "")).contains(GREEN), "an empty NO_COLOR is none");

    for (words, redirect, variable) in [
        ("migrate", "", ("NO_COLOR", "1")),
        ("migrate", "", ("TERM", "dumb")),
        ("migrate", "2>&1 | cat", NOTHING),
        ("doctor", "", ("NO_COLOR", "1")),
        ("doctor", "| cat", NOTHING),
    ] {
        let plain = seen(words, redirect, variable);
        assert!(plain.contains("✓ ") && !plain.contains('\x1b'), "{words} {redirect}: {plain}");
    }
    // Each stream for itself: a result in a file, the log on the terminal.
    let file = machine.path("result");
    let seen = seen("migrate", &format!("> {}", file.display()), NOTHING);
    assert!(seen.contains(GREEN), "{seen}");
    assert!(!machine.cts("migrate").success().err().contains('\x1b'));
    let journal = machine.cts("migrate").env("JOURNAL_STREAM", "1:2").success().err();
    assert!(journal.contains("<6>[v0] ✓ ") && !journal.contains('\x1b'), "{journal}");
}

#[test]
fn a_first_start_says_what_was_made_and_a_command_that_shows_it() {
    let machine = Machine::new();
    let said = machine.cts("migrate").success().err();
    let path = machine.db();
    let path = path.display();
    assert!(said.contains(&format!("✓ Created {path} (24 tables, mode 0600)\n")), "{said}");
    // The folder of the build is not on PATH.
    let look = format!("Look at it with `{} --db {path} status`\n", env!("CARGO_BIN_EXE_cts"));
    assert!(said.contains(&look), "{said}");
    machine.cts("status").success();
    let shared = Machine::new();
    let said = shared.cts("migrate").env("CTS_GROUP_ACCESS", "1").success();
    said.says(&["(24 tables, mode 0660)"]);
}

#[test]
fn the_first_start_of_the_service_says_how_to_ask_it_and_its_commands_can_be_typed() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let log = service.log();
    let (_, after) = log.split_once("tables verified\n").unwrap();
    let lines: Vec<&str> = after.lines().filter(|line| !line.contains('⚠')).take(3).collect();
    for (line, start) in
        lines.iter().zip(["Ask it: ", "Backups: in ", "Next: trading programs open "])
    {
        assert!(line.starts_with(&format!("[v0] {start}")), "{log}");
    }
    // Every second part of a line is between backquotes.
    let commands = lines.iter().flat_map(|line| line.split('`').skip(1).step_by(2));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 3, "{log}");
    for command in commands {
        let mut run = Run::of(Path::new("/bin/sh"), "-c");
        run.command.arg(command).env_remove("PATH");
        run.success();
    }
    assert_eq!(
        fs::read_dir(machine.path("backups"))
            .unwrap()
            .flatten()
            .filter(|entry| { entry.path().extension().is_some_and(|kind| kind == "db") })
            .count(),
        1
    );
    service.stop();
    let service = machine.serve().start();
    service.until_ready();
    assert!(!service.stop().1.contains("Ask it"));
    let unscheduled = Machine::new();
    let service = unscheduled.serve().env("CTS_BACKUP_EVERY", "0").start();
    service.until("backup` only (CTS_BACKUP_EVERY is 0)");
}

#[test]
fn a_second_service_is_told_that_one_serves_already() {
    let (machine, other) = (Machine::new(), Machine::new());
    let service = machine.serve().start();
    let address = service.address();
    service.until_ready();
    let run = other.cts(&format!("serve --port {}", address.port())).status(69);
    run.says(&[
        "cannot listen",
        &format!("`cts --check --url http://{address}`"),
        "systemctl stop cts",
    ]);
    assert!(other.files().is_empty());
}

#[test]
fn the_service_names_the_address_of_the_status_page_in_its_first_lines() {
    let machine = Machine::new();
    let service = machine.serve().start();
    let address = service.address();
    let log = service.log();
    let first: Vec<&str> = log.lines().take(2).collect();
    let line = format!("Listening on http://{address}/ (status page)");
    assert!(first.iter().any(|found| found.ends_with(&line)), "{log}");
    assert_eq!(service.get("/").code, 200);
}

#[test]
fn a_service_that_other_machines_can_reach_says_that_its_page_needs_a_token() {
    let start = |token: Option<&str>| {
        let machine = Machine::new();
        let run = machine.serve().env("HOST", "0.0.0.0");
        let run = token.into_iter().fold(run, |run, token| run.env("CTS_ADMIN_TOKEN", token));
        let service = run.start();
        service.until_ready();
        (service.stop().1, machine)
    };
    let (log, _) = start(None);
    assert!(
        log.contains("/ (the status page needs CTS_ADMIN_TOKEN, since other machines"),
        "{log}"
    );
    assert!(log.contains("`; set CTS_ADMIN_TOKEN for the status page, http://127.0.0.1:"), "{log}");
    let (log, _) = start(Some("correct-horse-battery-staple"));
    assert!(log.contains("/ (status page)") && log.contains("/ in a browser"), "{log}");
}

#[test]
fn an_adoption_sums_up_and_lists_with_verbose() {
    let (machine, listed) = (Machine::new(), Machine::new());
    for place in [&machine, &listed] {
        Old::Unified.make(&place.db());
    }
    let said = machine.cts("migrate").success().err();
    let sums: Vec<&str> = said.lines().filter(|line| line.contains("✓ Created ")).collect();
    assert_eq!(sums.len(), 1, "{said}");
    assert!(sums[0].contains("indexes") && !sums[0].contains(" 0 "), "{said}");
    assert!(!said.contains("was created"), "{said}");
    let all = listed.cts("migrate -v").success().err();
    let indexes =
        all.lines().filter(|line| line.contains("was created") && line.contains("index "));
    assert!(sums[0].contains(&format!("{} indexes", indexes.count())), "{sums:?}\n{all}");
}

#[test]
fn quiet_leaves_nothing_but_warnings_errors_and_results() {
    let machine = Machine::new();
    let quiet = |words: &str| {
        let done = machine.cts(words).success();
        let is_expected = |line: &str| line.contains("⚠") || line.contains("✗");
        assert!(done.err().lines().all(is_expected), "{words}: {}", done.err());
        done.out()
    };
    for words in ["migrate -q", "backup -q", "--quiet migrate"] {
        assert_eq!(quiet(words), "", "{words}");
    }
    let backup = machine.path("copy.db");
    assert_eq!(quiet(&format!("backup -q {}", backup.display())), "");
    assert!(quiet("repair -q").starts_with("no drift: "));
    assert!(quiet("verify -q").starts_with("no drift: "));
    assert!(quiet("status -q").contains("Status:     complete"));
    assert!(quiet("check -q").starts_with("CTS OK - "));
    assert!(quiet("backups -q").contains("1 backup"));
    assert!(quiet(&format!("backup -q --verify {}", backup.display())).contains("24 tables"));
    let to = machine.path("restored.db");
    let restore = format!("restore {} --to {}", backup.display(), to.display());
    let text = quiet(&format!("{restore} -q"));
    assert!(text.contains("24 tables, ") && !text.contains("Look at it"), "{text}");
    fs::remove_file(&to).unwrap();
    machine.cts(&restore).success().says(&["24 tables, ", "Look at it with"]);
}
