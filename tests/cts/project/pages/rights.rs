//! The rights that docs/postgresql.md gives to roles are enough for what they are given for.

use std::path::Path;

use super::page;
use crate::support::cluster::Cluster;
use crate::support::harness::Run;

/// One run of cts, as this role.
fn cts(cluster: &Cluster, role: &str, words: &str) -> Run {
    let port = cluster.port;
    let url = format!("postgresql://{role}:secret@127.0.0.1:{port}/trading?sslmode=disable");
    Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), words).env("DATABASE_URL", url)
}

#[test]
fn documented_rights_are_enough_on_postgres() {
    let page = page("docs/postgresql.md");
    let blocks = page.blocks();
    let block = blocks.iter().find(|block| block.language == "sql").unwrap();
    let cluster = Cluster::builder().start();
    cluster.sql("CREATE DATABASE trading");
    let mut admin = cluster.admin("trading");
    admin.batch_execute(&block.text.replace('…', "secret")).unwrap();
    cts(&cluster, "cts", "migrate").success();
    cts(&cluster, "cts", "verify").success();

    // A role for monitoring, and one for a trading program.
    let path = "ALTER ROLE monitor SET search_path = cts; ALTER ROLE trader SET search_path = cts";
    let roles = ["monitor", "trader"].map(|role| {
        format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA cts TO {role};")
    });
    admin.batch_execute(&format!("{}{path}", roles.concat())).unwrap();
    for (grant, role) in [
        ("SELECT ON cts.migrations", "monitor"),
        ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cts", "trader"),
    ] {
        assert!(page.text.contains(grant), "the page does not name {grant}");
        admin.batch_execute(&format!("GRANT {grant} TO {role}")).unwrap();
    }
    cts(&cluster, "monitor", "--check").success();
    let row = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'orders', 'x')";
    admin.batch_execute(&format!("SET ROLE trader; SET search_path = cts; {row}")).unwrap();
}
