//! An upgrade where the database is on a PostgreSQL server.

use super::install::machine_of;
use super::upgrades::{UPGRADE, install, put_next};
use crate::support::cluster::Cluster;
use crate::support::container::ContainerPlan;

#[test]
#[ignore = "sweep"]
fn an_upgrade_that_would_change_a_database_on_a_server_needs_pg_dump() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let plan = ContainerPlan::bare().with(cluster.folder(), "/pg");
    let Some(machine) = machine_of(plan) else { return };
    let url = database.url_to("", &format!("host=/pg&port={}", cluster.port));
    machine.write("/etc/default/cts", &format!("DATABASE_URL={url}\n"));
    install(&machine);
    assert_eq!(machine.ok("ls /data"), "", "no SQLite database");
    put_next(&machine);
    let migrations = || database.number("SELECT count(*) FROM migrations");

    let refused = |why: &str| {
        let done = machine.sh(&format!("{UPGRADE} try /opt/next"));
        assert_eq!(done.0.status.code(), Some(1), "{}", done.err());
        assert!(done.err().contains(why), "{}", done.err());
        assert_eq!(migrations(), 4);
    };
    refused("no folder of backups is set");
    let settings = format!("DATABASE_URL={url}\nCTS_BACKUP_DIR=/data/backups\n");
    machine.write("/etc/default/cts", &settings);
    refused("pg_dump");
    machine.ok("cts --check --url http://127.0.0.1:3000; cmp /usr/bin/cts /root/cts/cts");

    machine.ok(&format!("CTS_UPGRADE_WITHOUT_BACKUP=1 {UPGRADE} try /opt/next"));
    assert_eq!(migrations(), 5);
    machine.ok("cts --check --url http://127.0.0.1:3000; cmp /usr/bin/cts /opt/next");
}
