//! A full tablespace: the transaction is rolled back, the cause is reported, and the work succeeds
//! once there is space. The servers are private: checkpoints of a server with a full tablespace
//! fail, and without a checkpoint no database can be created on it.

use postgres::error::SqlState;

use crate::support::cluster::{Cluster, Database, SmallTablespace};
use crate::support::harness::Run;

const HEALTH: &str = "/api/health/database";
const ALL: u64 = u64::MAX;
const SAYS: [&str; 2] = ["No space left on device", "free some space on the server"];

/// Leaves this many bytes free, after a checkpoint has written all dirty pages.
fn leave(disk: &SmallTablespace, cluster: &Cluster, bytes: u64) {
    disk.leave(ALL);
    cluster.sql("CHECKPOINT");
    disk.leave(bytes);
}

fn objects(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
}

fn invalid(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready")
}

/// Inserts rows into `site_logs` as another program.
fn fill(database: &Database, rows: u32, bytes: u32) -> Result<(), postgres::Error> {
    let sql = format!(
        "INSERT INTO site_logs (level, category, message) \
         SELECT 'info', 'trade', repeat('x', {bytes}) FROM generate_series(1, {rows})"
    );
    database.open().batch_execute(&sql)
}

/// Fills the free space in the pages of the table too.
fn fill_up(database: &Database) {
    let mut rows = 1000;
    while rows > 0 {
        match fill(database, rows, 1) {
            Ok(()) => {}
            Err(e) if e.code() == Some(&SqlState::DISK_FULL) => rows /= 2,
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[test]
#[ignore = "sweep"]
fn a_first_run_on_a_full_tablespace_leaves_nothing() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(24) else { return };
    let database = disk.database();
    let (mut level, mut refusals) = (0, 0);
    loop {
        leave(&disk, &cluster, level);
        let done = database.cts("migrate").run();
        match done.0.status.code() {
            Some(0) => break,
            code => assert_eq!(code, Some(74), "{level}: {}", done.err()),
        }
        // With no free byte at all the login fails.
        let log = done.err();
        assert!(log.contains("nothing was changed") || log.contains("init file"), "{log}");
        done.says(&["free some space on the server"]);
        disk.leave(ALL);
        assert_eq!(objects(&database), 0, "{level} bytes");
        refusals += 1;
        level += 150_000;
    }
    eprintln!("{refusals} runs met the end of the disk, and {level} bytes were enough");
    assert!(refusals >= 5);
    disk.leave(ALL);
    database.cts("migrate").success();
    database.cts("verify").success();
    database.cts("--check --deep").success();
}

#[test]
#[ignore = "sweep"]
fn an_index_that_did_not_fit_is_built_once_there_is_space() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(48) else { return };
    let database = disk.database();
    database.cts("migrate").success();
    let index = "idx_site_logs_category";
    for (rows, whose) in [(5_000, "in the transaction"), (30_000, "while programs go on writing")] {
        database.sql(&format!("DROP INDEX {index}"));
        fill(&database, rows, 100).unwrap();
        let before = objects(&database);
        for words in ["repair", "migrate", "serve --port 0"] {
            leave(&disk, &cluster, 8 << 10);
            let done = database.cts(words).run();
            let what = format!("{words}, {whose}: {}{}", done.out(), done.err());
            assert_eq!(done.0.status.code(), Some(74), "{what}");
            done.says(&SAYS);
            assert_eq!(objects(&database) - invalid(&database), before, "{what}");
            eprintln!("{words}, {whose}: {} invalid", invalid(&database));
        }
        disk.leave(ALL);
        database.cts("--check").status(1).says(&[index]);
        database.cts("migrate").success().says(&[index]);
        assert_eq!((objects(&database), invalid(&database)), (before + 1, 0));
        database.cts("verify").success();
    }
}

/// Rows still fit into the pages that there are, so that a write that is rolled back succeeds.
#[test]
fn a_full_tablespace_shows_before_a_row_is_refused() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(24) else { return };
    let database = disk.database();
    database.cts("migrate").success();
    database.cts("--check").success();
    leave(&disk, &cluster, 0);
    fill(&database, 1, 1).expect("a row that fits into a page");
    for (words, code) in [("--check", 2), ("doctor", 2)] {
        database.cts(words).status(code).says(&SAYS).says(&["takes no more data"]);
    }
    // Rows still find room, so that a start is not refused.
    let service = database.serve().start();
    service.until_ready();
    let answer = service.until_status("unhealthy");
    assert!(SAYS.iter().all(|part| answer.body.contains(part)), "{}", answer.body);
    disk.leave(ALL);
    service.until_status("healthy");
    database.cts("--check").success();
    assert_eq!(service.stop().0, Some(0));
}

/// A role without a right on the tablespace, and one that may write no temporary file, cannot see it.
#[test]
fn the_room_of_each_tablespace_is_known_or_said_to_be_unknown() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(24) else { return };
    let database = cluster.owned();
    database.cts("migrate").success();
    let name = cluster.texts("SELECT spcname FROM pg_tablespace WHERE spcname LIKE 'small%'");
    let (name, role) = (name.concat(), &database.name);
    let move_index = format!("ALTER INDEX idx_users_username SET TABLESPACE \"{name}\"");
    database.admin().batch_execute(&move_index).unwrap();
    let unknown = format!("whether tablespace {name} has room is unknown");
    database.cts("--check").success().says(&["CTS OK", &unknown, "GRANT CREATE ON TABLESPACE"]);
    cluster.sql(&format!("GRANT CREATE ON TABLESPACE \"{name}\" TO \"{role}\""));
    assert!(!database.cts("--check").success().out().contains("unknown"));
    // Nothing but a partition of a child table is in it.
    database.sql("ALTER INDEX idx_users_username SET TABLESPACE pg_default");
    assert!(!database.cts("--check").success().out().contains("unknown"));
    let child = format!(
        "CREATE TABLE logs_of_2024 () INHERITS (site_logs); CREATE TABLE logs_of_may () INHERITS (logs_of_2024) TABLESPACE \"{name}\""
    );
    database.sql(&child);
    leave(&disk, &cluster, 0);
    let full = format!("the disk of tablespace {name} takes no more data");
    database.cts("--check").status(2).says(&SAYS).says(&[&full]);
    disk.leave(ALL);
    cluster.sql(&format!("ALTER ROLE \"{role}\" SET temp_file_limit = 0"));
    let done = database.cts("--check").success();
    done.says(&[
        "CTS OK",
        "whether the disk of the database has room is unknown",
        "temp_file_limit",
    ]);
}

/// Only a disk that takes no more data is a fault; that it could not be asked is none.
#[test]
fn room_that_cannot_be_asked_for_is_unknown_and_no_fault() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.admin().batch_execute("REVOKE SELECT ON pg_tablespace FROM PUBLIC").unwrap();
    let unknown = "whether the tablespaces of the tables have room is unknown: permission denied";
    database.cts("--check").success().says(&["CTS OK", unknown]);
    database.cts("doctor").run().says(&[unknown]);
}

/// The rolled-back write of the probe detects it, once the pages of its table are full too.
#[test]
#[ignore = "sweep"]
fn a_service_on_a_full_tablespace_is_unhealthy_until_there_is_space() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(24) else { return };
    let database = disk.database();
    let service = database.serve().start();
    service.until_ready();
    leave(&disk, &cluster, 0);
    fill_up(&database);
    let answer = service.until_status("unhealthy");
    assert!(SAYS.iter().all(|part| answer.body.contains(part)), "{}", answer.body);
    assert_eq!(service.get("/livez").code, 200);
    let check: Run = database.cts("--check");
    eprintln!("--check of a full tablespace: {}", check.run().out());
    disk.leave(ALL);
    let freed = std::time::Instant::now();
    service.until_status("healthy");
    eprintln!("healthy {} ms after there was room", freed.elapsed().as_millis());
    assert_eq!(service.get(HEALTH).code, 200);
    assert_eq!(service.stop().0, Some(0));
}
