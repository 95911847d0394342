//! The move to a PostgreSQL server and back, on a booted machine: the commands of docs/moving.md are typed as they are,
//! one block after the other, and every row is there afterwards.

use super::install::machine_of;
use crate::project::pages::blocks::TYPED_IN_ORDER;
use crate::project::pages::{Block, page};
use crate::support::cluster::Cluster;
use crate::support::container::{Container, ContainerPlan};

/// A day of trading, with times in the form of the store.
const ROWS: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('bybit-1', 'main'), ('okx-1', 'Größe 📈');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO indications_direction (connection_id, symbol, signal_strength, status, metadata, calculated_at)
    SELECT iif(i % 2, 'bybit-1', 'okx-1'), 'SYM' || (i % 200), i / 7.0, iif(i % 100, 'expired', 'active'),
        iif(i % 3, NULL, ''), strftime('%Y-%m-%d %H:%M:%f', 1.7e9 + i * 0.737, 'unixepoch') FROM n;
    INSERT INTO pseudo_positions (connection_id, symbol, side, status, is_open, entry_price, quantity)
    SELECT connection_id, symbol, 'long', 'active', id % 2, 1.0 / id, 1e-300 FROM indications_direction WHERE id <= 300;
    INSERT INTO site_logs (level, category, message) VALUES ('info', 'orders', 'kept');
    DELETE FROM indications_direction WHERE id = 2000;
";
/// All rows but those that cts adds when it is started and stopped.
const DUMP: &str = r#"
for table in $(sqlite3 /data/cts.db "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
        AND name NOT IN ('migrations', 'site_logs') ORDER BY name"); do
    echo "$table"
    sqlite3 /data/cts.db "SELECT * FROM $table ORDER BY 1" | sed '/|retention_\(clock\|announced\)|/d'
done
sqlite3 /data/cts.db "SELECT * FROM site_logs WHERE category = 'orders'"
"#;

/// A machine with cts, whose own port 5432 leads to the server.
fn machine(cluster: &Cluster) -> Option<Container> {
    let machine = machine_of(ContainerPlan::bare().with(cluster.folder(), "/pg"))?;
    let port = cluster.port;
    machine.write("/etc/systemd/system/server.socket", "[Socket]\nListenStream=127.0.0.1:5432\n");
    machine.write(
        "/etc/systemd/system/server.service",
        &format!("[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd /pg/.s.PGSQL.{port}\n"),
    );
    machine.ok("systemctl daemon-reload; systemctl start server.socket; dpkg -i /mnt/cts_*.deb");
    Some(machine)
}

/// The blocks of the page that change something, up to and without the one that begins the way back, and from that on.
fn steps() -> (Vec<Block>, Vec<Block>) {
    let page = page("docs/moving.md");
    let way_back = page.text.lines().position(|line| line == "## The way back").unwrap();
    let is_step =
        |block: &Block| block.language == "sql" || block.comment.as_deref() == Some(TYPED_IN_ORDER);
    page.blocks().into_iter().filter(is_step).partition(|block| block.line < way_back)
}

/// Runs a block as its reader would, with a password in place of the gap.
fn run(machine: &Container, cluster: &Cluster, block: &Block) {
    let text = block.text.replace('…', "secret");
    match &*block.language {
        "sql" => text.split_inclusive(";\n").for_each(|statement| cluster.sql(statement)),
        _ => drop(machine.ok(&text)),
    }
}

#[test]
#[ignore = "sweep"]
fn the_cut_over_and_the_way_back_are_typed_as_their_page_has_them() {
    let cluster = Cluster::builder().hba("local all cts scram-sha-256").start();
    let Some(machine) = machine(&cluster) else { return };
    machine.ok(&format!("sqlite3 /data/cts.db \"{ROWS}\""));
    let before = machine.ok(DUMP);
    let (forth, back) = steps();
    assert!(forth.len() > 3 && !back.is_empty());

    forth.iter().for_each(|block| run(&machine, &cluster, block));
    let mut server = cluster.admin("cts");
    server.batch_execute("SET ROLE cts").unwrap();
    let count = |client: &mut postgres::Client, table: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).unwrap().get(0)
    };
    assert_eq!(count(&mut server, "indications_direction"), 1999);
    assert_eq!(count(&mut server, "pseudo_positions WHERE is_open"), 150);
    assert_eq!(
        machine.ok("systemctl is-active cts; ls /data"),
        "active\nbackups\ncts.db.before-postgresql"
    );
    // A trading program goes on there, with the ids that follow.
    let insert = "INSERT INTO indications_direction (connection_id, symbol, signal_strength, status, calculated_at)
        VALUES ('okx-1', 'NEW', 0.1, 'active', '2026-11-29 08:15:00.5+00') RETURNING id";
    let id: i64 = server.query_one(insert, &[]).unwrap().get(0);
    assert_eq!(id, 2000);

    back.iter().for_each(|block| run(&machine, &cluster, block));
    assert_eq!(
        machine.ok("systemctl is-active cts; stat -c '%a %U' /data/cts.db"),
        "active\n600 cts"
    );
    let new = "FROM indications_direction WHERE symbol = 'NEW'";
    let row = machine.ok(&format!("sqlite3 /data/cts.db \"SELECT id, calculated_at {new}\""));
    assert_eq!(row, "2000|2026-11-29 08:15:00.500");
    machine.ok(&format!("sqlite3 /data/cts.db \"DELETE {new}\""));
    assert_eq!(machine.ok(DUMP), before);
}
