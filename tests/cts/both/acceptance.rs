//! `cts accept`: differences from the expected catalogue that are meant so.

use super::AnyStore;

on_both! {
    an_accepted_difference_is_listed_and_no_drift,
    a_newer_difference_of_the_same_object_is_drift,
    a_table_stands_for_what_belongs_to_it,
    a_missing_index_that_is_accepted_is_not_put_back,
    what_cannot_be_accepted_is_refused,
}

const ALTER: &str = "ALTER TABLE exchange_positions DROP COLUMN leverage; \
     ALTER TABLE exchange_positions ADD COLUMN leverage VARCHAR(9)";
const COLUMN: &str = "column exchange_positions.leverage: expected ";

fn an_accepted_difference_is_listed_and_no_drift(store: &dyn AnyStore) {
    store.migrate();
    store.sql(ALTER);
    store.cts("--check").status(1);
    store.cts("accept exchange_positions.leverage").success().says(&["accepted: ", COLUMN]);
    for words in ["verify", "status", "repair", "doctor"] {
        let said = store.cts(words).run();
        assert!(
            said.out().contains("accepted: ") && said.out().contains(COLUMN),
            "{words}: {}",
            said.out()
        );
    }
    store.cts("--check").success().says(&["CTS OK"]);
    store.cts("verify").success().says(&["no drift"]);
    let json = store.cts("verify --json").success().json();
    assert_eq!(json["accepted"][0]["object"]["name"], "leverage", "{json}");
    let json = store.cts("status --json").success().json();
    assert_eq!(json["accepted"][0]["object"]["table"], "exchange_positions", "{json}");
    // It is left alone by a start, and accepted after it.
    let service = store.serve();
    service.until_ready().until_status("healthy");
    service.stop();
    store.changes_nothing("accept column exchange_positions.leverage", 0, &["accepted already"]);
    let noted = "SELECT level FROM site_logs WHERE message LIKE '%accepted: column exchange_positions.leverage%'";
    assert_eq!(store.texts(noted), ["warn"]);
    store
        .cts("accept exchange_positions.leverage --withdraw")
        .success()
        .says(&["no longer accepted"]);
    store.cts("verify").status(1).says(&["altered: ", COLUMN]);
    store.changes_nothing("accept exchange_positions.leverage --withdraw", 0, &["not accepted"]);
}

fn a_newer_difference_of_the_same_object_is_drift(store: &dyn AnyStore) {
    store.migrate();
    store.sql(ALTER);
    store.cts("accept exchange_positions.leverage").success();
    store.sql(&ALTER.replace("VARCHAR(9)", "VARCHAR(8)"));
    store.cts("verify").status(1).says(&["altered: ", COLUMN, "drift: 1 altered"]);
    store.cts("accept exchange_positions.leverage").success();
    store.cts("verify").success();
    store.sql(ALTER);
    store.cts("verify").status(1);
}

fn a_table_stands_for_what_belongs_to_it(store: &dyn AnyStore) {
    store.migrate();
    store.sql(&format!(
        "{ALTER}; DROP INDEX idx_site_logs_time; CREATE INDEX idx_site_logs_time ON site_logs (level); \
         ALTER TABLE site_logs DROP COLUMN stack; ALTER TABLE site_logs ADD COLUMN stack VARCHAR(7)"
    ));
    store
        .cts("accept table site_logs")
        .success()
        .says(&["index idx_site_logs_time on site_logs", "column site_logs.stack"]);
    store.cts("verify").status(1).says(&["drift: 1 altered", COLUMN]);
    store.cts("accept site_logs --withdraw").success();
    store.cts("verify").status(1).says(&["drift: 3 altered"]);
}

fn a_missing_index_that_is_accepted_is_not_put_back(store: &dyn AnyStore) {
    store.migrate();
    store.sql("DROP INDEX idx_site_logs_category; DROP INDEX idx_site_logs_time");
    store.cts("accept idx_site_logs_category").success();
    for words in ["migrate", "repair"] {
        store.cts(words).success();
    }
    store.cts("verify").success().says(&["accepted: index idx_site_logs_category on site_logs: "]);
    store.cts("status").success();
    store.cts("accept idx_site_logs_category --withdraw").success();
    store.cts("repair").success().says(&["index idx_site_logs_category on site_logs was missing"]);
}

fn what_cannot_be_accepted_is_refused(store: &dyn AnyStore) {
    store.cts("accept users").status(65).says(&["there is no "]);
    store.migrate();
    let none = "there is no difference from the expected catalogue";
    store.changes_nothing("accept users", 65, &["users: ", none, "nothing was changed"]);
    store.changes_nothing("accept nonsense", 65, &[none]);
    store.sql("DROP TABLE statistics_daily; ALTER TABLE users DROP COLUMN role");
    store.changes_nothing(
        "accept statistics_daily",
        65,
        &["table statistics_daily is missing, which cannot be accepted", "cts repair"],
    );
    store.changes_nothing(
        "accept users.role",
        65,
        &["column users.role is missing, which cannot be accepted"],
    );
    store.sql(ALTER);
    store.changes_nothing(
        "accept users.email",
        65,
        &[none, "name one that differs: column exchange_positions.leverage"],
    );
    store.cts("accept").status(64);
}
