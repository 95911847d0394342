//! What the arguments of a command line mean, and which are refused.

use super::*;

fn parsed(line: &str) -> Result<Invocation, NoInvocation> {
    let words = std::iter::once("cts").chain(line.split_whitespace());
    parse(&words.map(OsString::from).collect::<Vec<_>>())
}

fn parsed_command(line: &str) -> Command {
    parsed(line).unwrap().command
}

#[test]
fn no_command_is_serve() {
    assert_eq!(parsed_command(""), Command::Serve);
    assert_eq!(parsed_command("serve"), Command::Serve);
}

#[test]
fn check_takes_its_own_flags() {
    let check = |json, deep, url: Option<&str>| Command::Check {
        json,
        deep,
        url: url.map(Into::into),
        ready: false,
    };
    assert_eq!(parsed_command("--check"), check(false, false, None));
    let ready = Command::Check { json: false, deep: false, url: None, ready: true };
    assert_eq!(parsed_command("--check --ready"), ready);
    assert_eq!(parsed_command("check --ready"), ready);
    assert_eq!(parsed_command("--check --json --deep"), check(true, true, None));
    assert_eq!(parsed_command("--check --url http://h"), check(false, false, Some("http://h")));
    assert_eq!(parsed_command("check"), check(false, false, None));
    assert_eq!(parsed_command("--check check"), check(false, false, None));
    assert_eq!(parsed_command("check --json --deep --db /x"), check(true, true, None));
    assert_eq!(parsed_command("check --url http://h -q"), check(false, false, Some("http://h")));
}

#[test]
fn the_flags_of_the_address_are_those_of_the_commands_that_use_it() {
    for line in [
        "--port 1",
        "serve --port 1",
        "--port 1 serve",
        "doctor --port 1",
        "--port 1 doctor --json",
    ] {
        assert_eq!(parsed(line).unwrap().flags.port.as_deref(), Some("1"), "{line}");
    }
    for line in [
        "verify --port 1",
        "--port 1 verify",
        "--host ::1 migrate",
        "check --host ::1",
        "backup --port=1",
    ] {
        let NoInvocation::Message(error) = parsed(line).unwrap_err() else { panic!() };
        let text = error.to_string();
        assert!(text.contains("is for cts serve") && text.contains("does not use it"), "{text}");
    }
    for line in [
        "--check --port 1",
        "check --url http://h --db /x",
        "--check --url http://h --db /x",
        "--db /x check --url http://h",
        "check --url http://h --database-url-file /x",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    for line in ["--db /x status --json", "status --json --db /x"] {
        let Invocation { command, flags } = parsed(line).unwrap();
        assert_eq!(command, Command::Status { json: true });
        assert_eq!(flags.db, Some(PathBuf::from("/x")));
    }
}

#[test]
fn accept_takes_an_object_in_one_word_or_several() {
    let accept = |object: &str, withdraw| Command::Accept { object: object.into(), withdraw };
    assert_eq!(parsed_command("accept users"), accept("users", false));
    assert_eq!(parsed_command("accept index i on t --withdraw"), accept("index i on t", true));
    assert!(parsed("accept").is_err());
}

#[test]
fn backup_takes_a_file_to_make_or_to_verify() {
    let file = PathBuf::from("/b/x.db");
    let backup = |file, compress| Command::Backup { file, compress };
    assert_eq!(parsed_command("backup"), backup(None, false));
    assert_eq!(parsed_command("backup --compress"), backup(None, true));
    assert_eq!(parsed_command("backup /b/x.db"), backup(Some(file.clone()), false));
    assert!(parsed("backup --compress --verify /b/x.db").is_err());
    assert_eq!(parsed_command("backup --verify /b/x.db"), Command::VerifyBackup { file });
    assert!(parsed("backup --verify").is_err());
}

#[test]
fn restore_takes_a_file_or_the_newest_backup() {
    let restore = |backup, to: Option<&str>, dry_run| Command::Restore {
        source: RestoreSource::Backup(backup),
        to: to.map(PathBuf::from),
        dry_run,
    };
    let file = |name: &str| BackupChoice::File(name.into());
    assert_eq!(parsed_command("restore latest"), restore(BackupChoice::Latest, None, false));
    assert_eq!(parsed_command("restore ./latest"), restore(file("./latest"), None, false));
    let line = "restore cts.db.zst --to /x --dry-run";
    assert_eq!(parsed_command(line), restore(file("cts.db.zst"), Some("/x"), true));
    assert!(parsed("restore").is_err());
}

#[test]
fn doctor_takes_json() {
    assert_eq!(parsed_command("doctor"), Command::Doctor { json: false });
    assert_eq!(parsed_command("doctor --json"), Command::Doctor { json: true });
}

#[test]
fn a_database_url_is_refused_before_anything_is_parsed() {
    for line in ["--db postgresql://u:p@h/d migrate", "--help x=postgres://u:p@h/d"] {
        let refusal = parsed(line).unwrap_err();
        assert!(matches!(&refusal, NoInvocation::DatabaseUrl(_)), "{refusal:?}");
        assert!(!format!("{refusal:?}").contains("u:p"), "{refusal:?}");
    }
}

#[test]
fn an_argument_that_is_quoted_in_an_error_reaches_no_terminal_as_it_is() {
    let arguments = ["cts", "\x1b[31mmigrat\nall is well", "--db", "/x"].map(OsString::from);
    let NoInvocation::Message(error) = parse(&arguments).unwrap_err() else { panic!() };
    let text = error.to_string();
    assert!(text.contains(r"'\x1b[31mmigrat\nall is well'"), "{text}");
}

#[test]
fn a_wrong_command_line_is_refused() {
    for line in [
        "--json",
        "--deep",
        "backups now",
        "--check status",
        "--check doctor",
        "doctor --deep",
        "status --dry-run",
        "migrate --json",
        "-q -v",
        "serve now",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
}
