//! Kinds by SQLSTATE, severity and routine, and what is shown of a message.

use super::*;

fn kind_of(code: &str, routine: Option<&str>, is_fatal: bool) -> Kind {
    let state = SqlState::from_code(code);
    meaning(&ServerFault { state: &state, message: "", routine, is_fatal }).0
}

#[test]
fn the_routine_decides_where_the_state_is_a_general_one() {
    assert_eq!(kind_of("XX000", Some("write_item"), true), Kind::Io);
    assert_eq!(kind_of("XX000", Some("mdread"), true), Kind::Data);
    assert_eq!(kind_of("XX000", Some("other"), true), Kind::Unavailable);
}

#[test]
fn known_texts_are_recognised() {
    for (text, known) in [
        ("canceling statement due to user request", Some(KnownText::CancelledByRequest)),
        ("canceling statement due to statement timeout", None),
        ("permission denied for schema public", Some(KnownText::SchemaDenied)),
        ("permission denied for table users", Some(KnownText::TableDenied)),
        ("must be owner of table users", None),
    ] {
        assert_eq!(known_text(text), known, "{text}");
    }
}

#[test]
fn states_have_their_kinds() {
    let kinds = [
        ("55P03", Kind::Blocked),
        ("40P01", Kind::Blocked),
        ("53100", Kind::Io),
        ("53300", Kind::Unavailable),
        ("57P03", Kind::Unavailable),
        ("57P01", Kind::Unavailable),
        ("08006", Kind::Unavailable),
        ("25006", Kind::Unavailable),
        ("28P01", Kind::Permission),
        ("42501", Kind::Permission),
        ("3D000", Kind::Config),
        ("XX001", Kind::Data),
        ("23505", Kind::Data),
        ("42P01", Kind::Data),
    ];
    for (code, kind) in kinds {
        assert_eq!(kind_of(code, None, false), kind, "{code}");
    }
}

#[test]
fn a_fatal_error_is_not_a_fault_of_the_data() {
    let kinds = [
        ("25P03", Kind::Unavailable),
        ("25P04", Kind::Unavailable),
        ("57P05", Kind::Unavailable),
        ("08P01", Kind::Unavailable),
        ("XX000", Kind::Unavailable),
        ("42704", Kind::Config),
        ("42601", Kind::Config),
        ("22023", Kind::Config),
        ("28P01", Kind::Permission),
        ("3D000", Kind::Config),
        ("XX001", Kind::Data),
    ];
    for (code, kind) in kinds {
        assert_eq!(kind_of(code, None, true), kind, "{code}");
    }
}

#[test]
fn messages_of_a_server_are_cut_and_contain_no_password() {
    let secret = Password::from("p@ss word");
    let text = format!("no p@ss word: {}", "x".repeat(5_000_000));
    let shown = printable(&text, Some(&secret));
    assert!(shown.starts_with("no ***: xxx") && shown.ends_with("x …"), "{shown}");
    assert_eq!(shown.chars().count(), MESSAGE_CHARS_MAX + 2);
    // A password that is cut in the middle.
    let text = "x".repeat(MESSAGE_CHARS_MAX - 4) + "p@ss word";
    assert!(!printable(&text, Some(&secret)).contains("p@"));
    assert_eq!(printable("could not read", Some(&Password::from("not"))), "could not read");
}
