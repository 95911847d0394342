//! What cannot be checked for damage, because its owner has changed it, is named and is not damaged.

use crate::support::cluster::Cluster;

#[test]
fn a_foreign_key_whose_column_has_another_type_cannot_be_checked_and_is_no_damage() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(
        "ALTER TABLE indication_states DROP CONSTRAINT indication_states_connection_id_fkey; \
         ALTER TABLE indication_states ALTER connection_id TYPE bigint USING NULL; \
         CREATE TABLE parents (id bigint PRIMARY KEY); \
         ALTER TABLE indication_states ADD FOREIGN KEY (connection_id) REFERENCES parents (id); \
         ALTER TABLE connection_coordination DROP CONSTRAINT connection_coordination_connection_id_fkey; \
         ALTER TABLE connection_coordination ADD CONSTRAINT own FOREIGN KEY (connection_id) REFERENCES exchange_connections (id) NOT VALID; \
         ALTER TABLE exchange_connections ADD COLUMN own int UNIQUE",
    );
    let checked = database.cts("--check --deep").run();
    assert!(!checked.out().contains("CRITICAL"), "{}", checked.out());
}

/// An index of the owner over a function that fails: it cannot be checked, and repair does not rebuild it.
#[test]
fn an_index_whose_function_fails_is_named_and_stops_nothing() {
    let database = Cluster::shared().owned();
    if database.admin().batch_execute("CREATE EXTENSION amcheck; GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO public").is_err() {
        return;
    }
    database.cts("migrate").success();
    database.sql(
        "CREATE FUNCTION own(value text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN value; END'; \
         CREATE INDEX own_index ON users (own(username)); \
         INSERT INTO users (username, password_hash) VALUES ('a', 'x'); \
         CREATE OR REPLACE FUNCTION own(value text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END'",
    );
    let said = "table users cannot be checked: index own_index: ";
    database.cts("--check --deep").status(1).says(&["CTS WARNING", said, "not today"]);
    database.cts("repair").success();
}
