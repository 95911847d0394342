//! Sequences of every kind that give the rows of our tables their ids.

use crate::support::cluster::Cluster;

const ROWS: &str =
    "INSERT INTO users (id, username, password_hash) VALUES (1, 'a', 'x'), (7, 'b', 'x')";
const NEW: &str = "INSERT INTO users (username, password_hash) VALUES ('new', 'x')";

/// How the sequence is changed beside two rows with the ids 1 and 7; what is said; the id of the next row after a repair.
const KINDS: &[(&str, &str, i64)] = &[
    (
        "ALTER SEQUENCE users_id_seq RESTART WITH 3",
        "the next is 3, though rows have ids up to 7",
        8,
    ),
    ("SELECT setval('users_id_seq', 7, false)", "the next is 7, though", 8),
    (
        "ALTER SEQUENCE users_id_seq INCREMENT 3 RESTART WITH 1",
        "the next is 1, though rows have ids up to 7",
        10,
    ),
    (
        "ALTER SEQUENCE users_id_seq INCREMENT -1 MINVALUE -90 MAXVALUE 90 RESTART WITH 7",
        "the next is 7, though rows have ids up to 1",
        0,
    ),
    (
        "SELECT setval('users_id_seq', 9223372036854775807)",
        "none is left for a new row after 9223372036854775807",
        8,
    ),
    (
        "ALTER SEQUENCE users_id_seq CYCLE MAXVALUE 90 RESTART WITH 7",
        "the next is 7, though rows have ids up to 7",
        8,
    ),
    (
        "ALTER SEQUENCE users_id_seq CACHE 50 RESTART WITH 2; ALTER SEQUENCE users_id_seq RENAME TO \"Own Seq\"",
        "the next is 2, though",
        8,
    ),
    // The owner has given the column a default of his own, which stays.
    (
        "ALTER TABLE users ALTER id DROP IDENTITY; CREATE SEQUENCE own; ALTER TABLE users ALTER id SET DEFAULT nextval('own')",
        "the next is 1, though rows have ids up to 7",
        8,
    ),
];

#[test]
fn a_sequence_that_would_give_a_used_id_is_reported_and_advanced() {
    for (change, said, next) in KINDS {
        let database = Cluster::shared().owned();
        database.cts("migrate").success();
        database.sql(ROWS);
        database.sql(change);
        database.cts("verify").status(1).says(&["ids of users.id: ", said]);
        let repaired = database.cts("repair").run();
        assert!(repaired.err().contains("they now go on past"), "{change}: {}", repaired.err());
        let verified = database.cts("verify").run();
        assert!(!verified.out().contains("ids of users.id"), "{change}: {}", verified.out());
        database.sql(NEW);
        assert_eq!(
            database.number("SELECT id FROM users WHERE username = 'new'"),
            *next,
            "{change}"
        );
    }
}

#[test]
fn a_sequence_that_gives_no_used_id_is_no_fault() {
    for change in [
        "SELECT setval('users_id_seq', 7)",
        "SELECT setval('users_id_seq', 100)",
        // Another server gives the odd ids.
        "ALTER SEQUENCE users_id_seq INCREMENT 2 RESTART WITH 2",
        "ALTER SEQUENCE users_id_seq INCREMENT -1 MINVALUE -90 RESTART WITH -1",
        // It began again, and the rows with its next ids are gone.
        "ALTER SEQUENCE users_id_seq CYCLE RESTART WITH 2",
    ] {
        let database = Cluster::shared().owned();
        database.cts("migrate").success();
        database.sql(ROWS);
        database.sql(change);
        database.cts("verify").success();
        database.cts("migrate").success().says(&["0 applied"]);
        database.sql(NEW);
    }
}

#[test]
fn a_row_with_the_last_id_is_reported_and_stops_no_start() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(
        "INSERT INTO users (id, username, password_hash) VALUES (9223372036854775807, 'a', 'x'); \
         SELECT setval('users_id_seq', 9223372036854775807)",
    );
    let none = "none is left for a new row after 9223372036854775807";
    database.cts("verify").status(1).says(&[none]);
    database.cts("migrate").success().says(&[none, "give the row with the last id another one"]);
    database.cts("repair").status(1).says(&[none]);
}

#[test]
fn a_role_that_may_not_change_a_sequence_starts_all_the_same() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(ROWS);
    database.admin().batch_execute("ALTER TABLE users OWNER TO postgres; GRANT ALL ON users TO public; GRANT SELECT ON users_id_seq TO public").unwrap();
    database.cts("verify").status(1).says(&["ids of users.id: the next is 1"]);
    database
        .cts("migrate")
        .success()
        .says(&["ids of users.id: the next is 1", "they cannot go on: "]);
    database.admin().batch_execute("REVOKE ALL ON users_id_seq FROM public").unwrap();
    database.cts("verify").success();
}

/// Rows become visible after they have taken their ids, so an inspection beside inserts finds no fault.
#[test]
fn live_inserts_are_no_fault() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    std::thread::scope(|scope| {
        for user in 0..3 {
            let mut client = database.open();
            scope.spawn(move || {
                for row in 0..400 {
                    let insert = format!(
                        "INSERT INTO users (username, password_hash) VALUES ('u{user}-{row}', 'x')"
                    );
                    client.batch_execute(&insert).unwrap();
                }
            });
        }
        for _ in 0..20 {
            database.cts("verify").success();
        }
    });
}
