//! Starts, migrations and other runs, and what they log, record and change.

use super::{AnyStore, FILES, named};

on_both! {
    a_first_start_logs_its_four_lines_and_records_them,
    a_killed_service_restarts_and_loses_nothing,
    with_nothing_to_do_nothing_is_written,
    a_dry_run_prints_what_migrate_does,
    read_only_commands_create_nothing,
    pending_migrations_and_missing_objects_are_applied_in_one_run,
    changed_settings_are_kept,
    a_start_succeeds_though_site_logs_cannot_be_written,
}

fn a_first_start_logs_its_four_lines_and_records_them(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    let kind = format!("[v0] Database Type: {}\n", store.kind().to_uppercase());
    let lines = [
        &kind,
        "[v0] ✓ Unified setup complete: 92 applied, 0 skipped\n",
        "[v0] ✓ All 22 critical tables verified\n",
        "[v0] ✓ Application Ready for Production\n",
    ];
    let places: Vec<_> =
        lines.iter().map(|line| log.find(line).unwrap_or_else(|| panic!("{line}{log}"))).collect();
    assert!(places.is_sorted(), "{log}");
    assert!(log.lines().all(|line| line.starts_with("[v0] ")), "{log}");
    let notes =
        store.texts("SELECT level || ' ' || category || ' ' || message FROM site_logs ORDER BY id");
    let applied = FILES.map(|file| format!("info database cts 3.1.0 applied {file}: "));
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(applied.iter().zip(&notes).all(|(start, note)| note.starts_with(start)), "{notes:?}");
    assert_eq!(
        notes[4..],
        ["info database the service started (cts 3.1.0)", "info database the service stopped"]
    );
    let service = store.serve();
    service.until_ready();
    assert!(service.stop().1.contains("Unified setup complete: 0 applied, 92 skipped"));
}

fn a_killed_service_restarts_and_loses_nothing(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    store.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')");
    service.signal(rustix::process::Signal::KILL);
    assert_eq!(service.end().0, None);
    let service = store.serve();
    service.until_ready().until_status("healthy");
    assert!(service.log().contains("0 applied, 92 skipped"));
    assert_eq!(store.number("SELECT count(*) FROM site_logs WHERE message = 'kept'"), 1);
}

fn with_nothing_to_do_nothing_is_written(store: &dyn AnyStore) {
    store.migrate();
    store.changes_nothing("migrate", 0, &["Unified setup complete: 0 applied, 92 skipped"]);
    store.changes_nothing("migrate --dry-run", 0, &["nothing to do, 4 migrations are applied"]);
    store.changes_nothing("repair", 0, &["no drift: 24 tables"]);
    store.changes_nothing("verify", 0, &["no drift: 24 tables"]);
    store.changes_nothing("status", 0, &["4 of 4 applied", "22 of 22 core tables", "complete"]);
    store.changes_nothing("--check", 0, &["CTS OK"]);
    store.changes_nothing("--check --deep", 0, &["CTS OK"]);
}

fn a_dry_run_prints_what_migrate_does(store: &dyn AnyStore) {
    for (sql, runs) in [
        ("SELECT 1", &FILES[..]),
        ("DELETE FROM migrations WHERE id > 2; DROP TABLE indication_states", &FILES[2..]),
    ] {
        if runs.len() < FILES.len() {
            store.sql(sql);
        }
        let before = store.everything();
        let plan = store.cts("migrate --dry-run").success().says(&["nothing was changed"]).out();
        assert_eq!(store.everything(), before, "{sql}");
        assert_eq!(named(&plan, "would apply "), runs, "{plan}");
        let done = store.cts("migrate").success().err();
        let ran: Vec<_> =
            named(&done, "✓ ").into_iter().filter(|name| name.ends_with(".sql")).collect();
        assert_eq!(ran, runs, "{done}");
    }
    store.sql("DROP INDEX idx_site_logs_time; ALTER TABLE users DROP COLUMN role");
    let objects = ["column users.role", "index idx_site_logs_time on site_logs"];
    let plan = objects.map(|object| format!("would put back {object}\n"));
    store.changes_nothing("migrate --dry-run", 0, &[&plan[0], &plan[1], "nothing was changed"]);
    let done = objects.map(|object| format!("{object} was missing and has been put back\n"));
    store.cts("migrate").success().says(&[&done[0], &done[1]]);
}

fn read_only_commands_create_nothing(store: &dyn AnyStore) {
    let is_missing: &[&str] = match store.kind() {
        "sqlite" => &["there is no database"],
        _ => &["there is no table of CTS"],
    };
    for (words, code) in
        [("verify", 65), ("verify --json", 65), ("repair", 65), ("--check", 2), ("status", 1)]
    {
        store.changes_nothing(words, code, is_missing);
    }
    store.changes_nothing("migrate --dry-run", 0, &["would be created"]);
    assert_eq!(store.cts("--check --json").status(2).json()["status"], "unhealthy");
    assert_eq!(store.cts("status --json").status(1).json()["success"], false);
}

fn pending_migrations_and_missing_objects_are_applied_in_one_run(store: &dyn AnyStore) {
    store.migrate();
    // The pending migration makes an index on a column that is missing.
    store.sql(
        "DELETE FROM migrations WHERE id = 3; DROP INDEX idx_pseudo_positions_base; \
         ALTER TABLE pseudo_positions DROP COLUMN position_level",
    );
    store.cts("--check").status(1).says(&["070_high_frequency_performance_indexes.sql is pending"]);
    store.cts("migrate").success().says(&[
        "column pseudo_positions.position_level was missing and has been put back",
        "✓ 070_high_frequency_performance_indexes.sql: ",
    ]);
    store.cts("verify").success();
    assert_eq!(store.number("SELECT count(*) FROM migrations"), 4);
}

fn changed_settings_are_kept(store: &dyn AnyStore) {
    store.migrate();
    let key = store.texts("SELECT key FROM system_settings ORDER BY id LIMIT 1").remove(0);
    store.sql(&format!(
        "UPDATE system_settings SET value = 'mine' WHERE key = '{key}'; \
         DELETE FROM migrations WHERE id = 1"
    ));
    store.cts("migrate").success().says(&["✓ unified_complete_setup.sql: 52 skipped ("]);
    let value = format!("SELECT value FROM system_settings WHERE key = '{key}'");
    assert_eq!(store.texts(&value), ["mine"]);
    store.sql("DELETE FROM system_settings; DROP INDEX idx_site_logs_time");
    store.migrate();
    assert_eq!(store.number("SELECT count(*) FROM system_settings"), 0);
}

fn a_start_succeeds_though_site_logs_cannot_be_written(store: &dyn AnyStore) {
    store.migrate();
    store.sql(
        "DELETE FROM site_logs WHERE id > 1; CREATE UNIQUE INDEX no_more ON site_logs (category); \
         DROP TABLE statistics_daily",
    );
    let service = store.serve();
    service.until_ready().until_status("healthy");
    let (code, log) = service.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("cannot write to table site_logs"), "{log}");
    store.cts("verify").success();
}
