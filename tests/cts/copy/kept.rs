//! Values that both stores can hold, in every form in which a program may have written them.

use crate::support::cluster::texts;
use crate::support::harness::Machine;

use super::{Ends, proved, rows};

/// Forms of a time, and what arrives on the server.
const TIMES: &[(&str, &str)] = &[
    ("2026-01-02", "2026-01-02 00:00:00+00"),
    ("2026-01-02 03:04", "2026-01-02 03:04:00+00"),
    ("2026-01-02T03:04", "2026-01-02 03:04:00+00"),
    ("2026-01-02 03:04:05", "2026-01-02 03:04:05+00"),
    ("2026-01-02T03:04:05", "2026-01-02 03:04:05+00"),
    ("2026-01-02 03:04:05.6", "2026-01-02 03:04:05.6+00"),
    ("2026-01-02 03:04:05.678", "2026-01-02 03:04:05.678+00"),
    ("2026-01-02 03:04:05.678901", "2026-01-02 03:04:05.678901+00"),
    ("2026-01-02 03:04:05.678901000", "2026-01-02 03:04:05.678901+00"),
    ("2026-01-02 03:04:05.000001", "2026-01-02 03:04:05.000001+00"),
    ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05+00"),
    ("2026-01-02T03:04:05.678Z", "2026-01-02 03:04:05.678+00"),
    ("2026-01-02 03:04Z", "2026-01-02 03:04:00+00"),
    ("2026-01-02T03:04:05+02:00", "2026-01-02 01:04:05+00"),
    ("2026-01-02 03:04:05.5+0530", "2026-01-01 21:34:05.5+00"),
    ("2026-01-02T03:04:05-09", "2026-01-02 12:04:05+00"),
    ("2026-01-02 23:59:59+14:00", "2026-01-02 09:59:59+00"),
    ("2026-01-01 00:00:00-14:00", "2026-01-01 14:00:00+00"),
    ("2024-02-29 23:59:59.999999", "2024-02-29 23:59:59.999999+00"),
    ("1969-12-31 23:59:59.999", "1969-12-31 23:59:59.999+00"),
    ("1900-02-28 12:00:00", "1900-02-28 12:00:00+00"),
    ("0001-01-01 00:00:00", "0001-01-01 00:00:00+00"),
    ("9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999+00"),
];

/// What comes back to SQLite.
fn own_form(server: &str) -> String {
    let text = server.strip_suffix("+00").unwrap();
    let (second, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{second}.{fraction:0<width$}", width = if fraction.len() > 3 { 6 } else { 3 })
}

#[test]
fn every_form_of_a_time_is_the_same_moment_on_the_server_and_comes_back_in_the_form_of_cts() {
    let values: Vec<String> = TIMES
        .iter()
        .enumerate()
        .map(|(id, (form, _))| format!("({}, 'info', 'x', 'y', '{form}')", id + 1))
        .collect();
    let ends = Ends::with(&format!(
        "DELETE FROM site_logs; INSERT INTO site_logs (id, level, category, message, timestamp) VALUES {};
         INSERT INTO exchange_connections (id, name) VALUES ('c', 'c');
         INSERT INTO statistics_daily (connection_id, trade_date) VALUES ('c', '2024-02-29'), ('c', '0001-01-01'), ('c', '9999-12-31')",
        values.join(", ")
    ));
    let there = proved(&ends.to_postgresql("--json").success().json());
    let mut client = ends.database.open();
    client.batch_execute("SET timezone = 'UTC'").unwrap();
    let found = texts(&mut client, "SELECT timestamp::text FROM site_logs ORDER BY id");
    let expected: Vec<_> = TIMES.iter().map(|(_, server)| server.to_string()).collect();
    assert_eq!(found, expected);
    let days = "SELECT trade_date::text FROM statistics_daily ORDER BY id";
    assert_eq!(texts(&mut client, days), ["2024-02-29", "0001-01-01", "9999-12-31"]);
    let back = proved(&ends.to_sqlite("--json").success().json());
    assert_eq!(there, back);
    let machine = Machine::new();
    std::fs::rename(ends.back(), machine.db()).unwrap();
    let expected: Vec<_> = TIMES.iter().map(|(_, server)| own_form(server)).collect();
    assert_eq!(machine.texts("SELECT timestamp FROM site_logs ORDER BY id"), expected);
    let days = machine.texts("SELECT trade_date FROM statistics_daily ORDER BY id");
    assert_eq!(days, ["2024-02-29", "0001-01-01", "9999-12-31"]);
}

#[test]
fn booleans_are_read_as_numbers_and_as_the_texts_that_programs_write() {
    let forms =
        ["1", "0", "'true'", "'false'", "'t'", "'f'", "'TRUE'", "'False'", "NULL", "'1'", "'0'"];
    let values: Vec<String> =
        forms.iter().enumerate().map(|(n, form)| format!("('c{n:02}', 'c', {form})")).collect();
    let sql = format!(
        "INSERT INTO exchange_connections (id, name, testnet) VALUES {}",
        values.join(", ")
    );
    let ends = Ends::with(&sql);
    let there = proved(&ends.to_postgresql("--json").success().json());
    let found = ends.database.texts("SELECT testnet FROM exchange_connections ORDER BY id");
    assert_eq!(found, ["t", "f", "t", "f", "t", "f", "t", "f", "NULL", "t", "f"]);
    assert_eq!(proved(&ends.to_sqlite("--json").success().json()), there);
    let back = Machine::new();
    std::fs::rename(ends.back(), back.db()).unwrap();
    let typed =
        "SELECT coalesce(typeof(testnet) || testnet, 'null') FROM exchange_connections ORDER BY id";
    let [yes, no, none] = ["integer1", "integer0", "null"];
    assert_eq!(back.texts(typed), [yes, no, yes, no, yes, no, yes, no, none, yes, no]);
}

/// The bits of each double, and every character of each text.
#[test]
fn numbers_and_texts_keep_every_bit() {
    let ends = Ends::with(
        "INSERT INTO exchange_connections (id, name, user_id, exchange_id) VALUES
             ('', 'least', -9223372036854775808, -2147483648), ('ünï ✓', 'most', 9223372036854775807, 2147483647),
             (char(0x10ffff), 'odd', 9007199254740993, 0);
         INSERT INTO pseudo_positions (connection_id, symbol, entry_price) VALUES
             ('', '1', 0.1 + 0.2), ('', '2', 9e999), ('', '3', -9e999), ('', '4', -0.0), ('', '5', 5e-324),
             ('', '6', -2.225073858507201e-308), ('', '7', 1.7976931348623157e308), ('', '8', 3), ('', '9', 1e22),
             ('', '10', 9007199254740992), ('', '11', '1.5'), ('', '12', NULL);
         INSERT INTO system_settings (key, value) VALUES ('empty', ''), ('lines', char(10, 13, 9, 92) || '\\N\\.'),
             ('odd', char(1, 0x7f, 0x80, 0xfffd, 0xfffe, 0xffff, 0xfeff, 0x202e, 0x1f680, 0xd7ff, 0xe000)),
             ('number', 17), ('real', 0.1), ('null', 'NULL');",
    );
    let conn = ends.machine.open();
    // Several megabytes, of characters of each length.
    let long: String = ["a", "é", "✓", "🚀"].concat().repeat(700_000);
    conn.execute("INSERT INTO system_settings (key, value) VALUES ('long', ?1)", [&long]).unwrap();
    let there = proved(&ends.to_postgresql("--json").success().json());
    let bits = "SELECT encode(float8send(entry_price), 'hex') FROM pseudo_positions ORDER BY id";
    let expected =
        [0.1 + 0.2, f64::INFINITY, f64::NEG_INFINITY, 0.0, 5e-324, -2.225_073_858_507_201e-308];
    let more = [f64::MAX, 3.0, 1e22, 9_007_199_254_740_992.0, 1.5];
    let mut expected: Vec<_> =
        expected.iter().chain(&more).map(|number| format!("{:016x}", number.to_bits())).collect();
    expected.push("NULL".into());
    assert_eq!(ends.database.texts(bits), expected);
    let mut client = ends.database.open();
    for row in conn
        .prepare("SELECT key, value FROM system_settings")
        .unwrap()
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .unwrap()
    {
        let (key, value) = row.unwrap();
        let found =
            client.query_one("SELECT value FROM system_settings WHERE key = $1", &[&key]).unwrap();
        assert!(found.get::<_, String>(0) == value, "{key}");
    }
    assert_eq!(
        ends.database.texts(
            "SELECT user_id || ' ' || exchange_id FROM exchange_connections ORDER BY user_id"
        ),
        [
            "-9223372036854775808 -2147483648",
            "9007199254740993 0",
            "9223372036854775807 2147483647"
        ]
    );
    assert_eq!(proved(&ends.to_sqlite("--json").success().json()), there);
    for table in ["exchange_connections", "pseudo_positions", "system_settings"] {
        assert!(rows(&ends.machine.db(), table) == rows(&ends.back(), table), "{table}");
    }
    ends.server_is_good();
}

/// Columns that the owner has added may hold bytes.
#[test]
fn bytes_of_an_extra_column_arrive() {
    let ends = Ends::with(
        "ALTER TABLE users ADD COLUMN photo BLOB;
         INSERT INTO users (username, password_hash, photo) VALUES ('a', 'x', x''), ('b', 'x', x'00ff27'), ('c', 'x', NULL),
             ('d', 'x', randomblob(3000000))",
    );
    let there = proved(&ends.to_postgresql("--json --with-extra").success().json());
    let found = ends
        .database
        .texts("SELECT encode(photo, 'hex') FROM users WHERE username <> 'd' ORDER BY id");
    assert_eq!(found, ["", "00ff27", "NULL"]);
    assert_eq!(proved(&ends.to_sqlite("--json --with-extra").success().json()), there);
    assert!(rows(&ends.machine.db(), "users") == rows(&ends.back(), "users"));
}

/// Two moments that are one only in another form are one value of a unique index on the server.
#[test]
fn times_that_are_one_moment_become_a_constraint_exception_of_their_unique_index() {
    let ends = Ends::with(
        "INSERT INTO exchange_connections (id, name) VALUES ('c', 'c');
         INSERT INTO statistics_indication (connection_id, symbol, indication_type, period_start, period_end) VALUES
             ('c', 's', 't', '2026-01-01 00:00:00.000', '2026-01-02'), ('c', 's', 't', '2026-01-01T00:00:00Z', '2026-01-02 00:00')",
    );
    let report = ends.to_postgresql("--json").success().json();
    proved(&report);
    let exceptions = report["constraintExceptions"].to_string();
    assert!(exceptions.contains("idx_statistics_indication_period"), "{report}");
    ends.server_is_good();
}
