//! Text that others wrote (names in the database, paths, arguments) on its way to a terminal or a log.

use crate::support::harness::Machine;

/// A name with a colour, a bell, a C1 escape, a change of direction, and a line that cts itself might print.
const NAME: &str = "a\x1b[31m\x07\u{9b}31m\u{202e}\nno drift: all is well";
/// The same name as it is shown.
const SHOWN: &str = r"a\x1b[31m\x07\u{9b}31m\u{202e}\nno drift: all is well";

fn has_control_characters(text: &str) -> bool {
    text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}')
}

#[test]
fn names_of_objects_reach_no_terminal_as_they_are() {
    let machine = Machine::migrated();
    machine.sql(&format!(
        "ALTER TABLE users ADD COLUMN \"{NAME}\" TEXT; DROP INDEX idx_users_email;
         CREATE INDEX idx_users_email ON users(\"{NAME}\")"
    ));
    for words in ["verify", "status", "migrate --dry-run", "--check", "doctor", "migrate", "repair"]
    {
        let done = machine.cts(words).run();
        let all = done.out() + &done.err();
        assert!(!has_control_characters(&all), "{words}: {all:?}");
        assert!(!all.lines().any(|line| line.starts_with("no drift: all")), "{words}: {all}");
    }
    machine.cts("verify").run().says(&[SHOWN]);
    machine.cts("repair").run().says(&[SHOWN]);
}

#[test]
fn json_keeps_the_exact_name_and_escapes_it() {
    let machine = Machine::migrated();
    machine.sql(&format!("ALTER TABLE users ADD COLUMN \"{NAME}\" TEXT"));
    let done = machine.cts("verify --json").success();
    assert!(!has_control_characters(&done.out()), "{:?}", done.out());
    let extra = done.json()["extra"].clone();
    assert!(extra.as_array().unwrap().iter().any(|column| column["name"] == NAME), "{extra}");
}

#[test]
fn paths_and_arguments_reach_no_terminal_as_they_are() {
    let machine = Machine::new();
    let folder = machine.path("f\x1b[31m\n[v0] all is well");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cts.db"), "not a database, but long enough to be read").unwrap();
    for words in ["migrate", "--check", "status", "doctor", "migrate --dry-run"] {
        let mut run = machine.cts(words);
        run.command.arg("--db").arg(folder.join("cts.db"));
        let done = run.run();
        let all = done.out() + &done.err();
        assert!(!has_control_characters(&all), "{words}: {all:?}");
        assert!(!all.lines().any(|line| line == "[v0] all is well"), "{words}: {all}");
    }
    let mut run = machine.cts("");
    run.command.arg("mi\x1b[31mgrate");
    let done = run.status(64);
    assert!(!has_control_characters(&done.err()), "{:?}", done.err());
}
