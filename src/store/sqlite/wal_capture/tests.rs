//! What is captured beside writers, readers and checkpoints, applied to a copy, is the database after each commit.

use std::fs;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;

use super::*;

const PAGE_BYTES: u32 = 1024;

/// A database whose row `total` holds the sum of all values and the number of transactions, so that a state proves itself.
fn create(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER, filling BLOB);
         CREATE INDEX by_x ON t (x);
         CREATE TABLE total (rows INTEGER, sum INTEGER, commits INTEGER);
         INSERT INTO total VALUES (0, 0, 0);
         PRAGMA wal_checkpoint(TRUNCATE)"
    ))
    .unwrap();
    conn
}

fn program(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(20)).unwrap();
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    conn.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 20",
    )
    .unwrap();
    conn
}

/// Numbers that look random.
struct RandomNumbers(u64);

impl RandomNumbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Writes transactions, some of which are rolled back as a whole or in part.
fn write(path: &Path, seed: u64, is_over: &AtomicBool) {
    let (conn, mut random) = (program(path), RandomNumbers(seed));
    while !is_over.load(Ordering::Relaxed) {
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        change(&conn, &mut random);
        if random.below(4) == 0 {
            conn.execute_batch("SAVEPOINT s").unwrap();
            change(&conn, &mut random);
            conn.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
        }
        let sums = "UPDATE total SET commits = commits + 1, rows = (SELECT count(*) FROM t), sum = (SELECT coalesce(sum(x), 0) FROM t)";
        conn.execute_batch(sums).unwrap();
        let end = if random.below(8) == 0 { "ROLLBACK" } else { "COMMIT" };
        conn.execute_batch(end).unwrap();
    }
}

fn change(conn: &Connection, random: &mut RandomNumbers) {
    for _ in 0..1 + random.below(12) {
        let (id, x, size) = (random.below(400), random.below(1 << 40), random.below(3000));
        match random.below(5) {
            0 => conn.execute("DELETE FROM t WHERE id BETWEEN ?1 AND ?1 + 30", [id]).unwrap(),
            _ => conn
                .execute("INSERT OR REPLACE INTO t VALUES (?1, ?2, randomblob(?3))", [id, x, size])
                .unwrap(),
        };
    }
}

/// Applies captured pages to a copy.
fn apply(copy: &Path, captured: &CapturedPages) {
    let file = fs::OpenOptions::new().write(true).open(copy).unwrap();
    file.set_len(u64::from(captured.pages) * u64::from(PAGE_BYTES)).unwrap();
    let mut image = vec![0; PAGE_BYTES as usize];
    for (place, page) in captured.numbers().iter().enumerate() {
        captured.read(place, &mut image).unwrap();
        file.write_all_at(&image, u64::from(page - 1) * u64::from(PAGE_BYTES)).unwrap();
    }
}

/// Captures what is new and lets go of it. Returns the number of transactions.
fn renewed(capture: &mut WalCapture, save: impl FnOnce(&CapturedPages)) -> u64 {
    match capture.capture().unwrap() {
        Captured::Pages(found) => {
            save(&found);
            capture.let_go().unwrap();
            found.commits
        }
        Captured::Nothing(_) => 0,
        Captured::Gap(gap) => panic!("{gap:?}"),
    }
}

/// Proves that a copy is a state that was committed. Returns its number of transactions.
fn prove(copy: &Path) -> i64 {
    let uri = format!("file:{}?immutable=1", copy.display());
    let conn = Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    )
    .unwrap();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let sql = "SELECT rows, sum, commits, (SELECT count(*) FROM t), (SELECT coalesce(sum(x), 0) FROM t) FROM total";
    let found = conn.query_row(sql, [], |row| {
        Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    });
    let [rows, sum, commits, rows_now, sum_now] = found.unwrap();
    assert_eq!((rows, sum), (rows_now, sum_now), "after {commits} commits");
    commits
}

fn start(path: &Path, position: Option<WalPosition>) -> (WalCapture, Result<(), CaptureGap>) {
    let never = Arc::new(AtomicBool::new(false));
    WalCapture::start(path, position, &WaitPolicy::silent(Duration::from_secs(5), &never)).unwrap()
}

#[test]
fn every_commit_is_captured_beside_writers_readers_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("cts.db"), folder.path().join("copy.db"));
    let conn = create(&path);
    fs::copy(&path, &copy).unwrap();
    let (mut capture, _) = start(&path, None);
    assert_eq!(capture.position.frames, 0);
    let is_over = AtomicBool::new(false);
    let (mut commits, mut segments, mut generations) = (0, 0, 0);
    thread::scope(|scope| {
        for seed in 1..=2 {
            let (path, is_over) = (&path, &is_over);
            scope.spawn(move || write(path, seed, is_over));
        }
        for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
            let (path, is_over) = (&path, &is_over);
            scope.spawn(move || {
                let conn = program(path);
                conn.busy_timeout(Duration::from_millis(30)).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // Others may hold its locks.
                    let _ =
                        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
                    thread::sleep(Duration::from_millis(7));
                }
            });
        }
        for _ in 0..400 {
            let before = capture.position;
            commits += renewed(&mut capture, |found| {
                apply(&copy, found);
                segments += 1;
            });
            generations += u32::from(capture.position.salts != before.salts);
            prove(&copy);
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    commits += renewed(&mut capture, |found| apply(&copy, found));
    let of_copy = prove(&copy);
    let of_database: i64 =
        conn.query_row("SELECT commits FROM total", [], |row| row.get(0)).unwrap();
    assert_eq!((of_copy, u64::try_from(of_copy).unwrap()), (of_database, commits));
    assert!(
        segments > 50 && generations > 2,
        "{commits} commits in {segments} segments, {generations} generations"
    );
}

#[test]
fn it_goes_on_after_an_absence_only_where_the_wal_still_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    let conn = create(&path);
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1, 1, NULL)").unwrap();
    let (mut capture, gap) = start(&path, None);
    assert_eq!(gap, Err(CaptureGap::Restarted), "it was nowhere");
    assert_eq!(renewed(&mut capture, |_| {}), 1);
    let position = capture.position;
    drop(capture);
    conn.execute_batch("INSERT INTO t VALUES (2, 2, NULL)").unwrap();
    let (mut capture, gap) = start(&path, Some(position));
    assert_eq!(gap, Ok(()));
    assert_eq!(renewed(&mut capture, |_| {}), 1);
    let position = capture.position;
    drop(capture);
    conn.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (3, 3, NULL)")
        .unwrap_or_default();
    conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    conn.execute_batch("INSERT INTO t VALUES (4, 4, NULL)").unwrap();
    let (_, gap) = start(&path, Some(position));
    assert_eq!(gap, Err(CaptureGap::Restarted));
}

#[test]
fn what_is_not_let_go_is_kept_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    let conn = create(&path);
    let (mut capture, _) = start(&path, None);
    conn.execute_batch("INSERT INTO t VALUES (1, 1, NULL)").unwrap();
    assert!(matches!(capture.capture(), Ok(Captured::Pages(_))));
    // The WAL is kept meanwhile.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    conn.execute_batch("INSERT INTO t VALUES (2, 2, NULL)").unwrap();
    assert_eq!(renewed(&mut capture, |_| {}), 2);
}

#[test]
fn behind_a_barrier_the_wal_begins_anew_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("cts.db"), folder.path().join("copy.db"));
    let conn = create(&path);
    fs::copy(&path, &copy).unwrap();
    let (mut capture, _) = start(&path, None);
    let checkpoints = program(&path);
    for turn in 0..20 {
        conn.execute("INSERT INTO t VALUES (?1, ?1, randomblob(9000))", [turn]).unwrap();
        if turn % 3 == 0 {
            renewed(&mut capture, |found| apply(&copy, found));
        }
        conn.execute("UPDATE t SET x = x + 1 WHERE id = ?1", [turn]).unwrap();
        let before = capture.position.salts;
        let writer = program(&path);
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(capture.pass_barrier(10, || panic!("more is left")).unwrap().is_none());
        let copied = || {
            checkpoints.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        };
        let Some(Captured::Pages(found)) = capture.pass_barrier(1 << 20, copied).unwrap() else {
            panic!("nothing was captured")
        };
        writer.execute_batch("ROLLBACK").unwrap();
        // It overwrites the WAL.
        conn.execute("UPDATE t SET filling = randomblob(20000) WHERE id = ?1", [turn]).unwrap();
        apply(&copy, &found);
        renewed(&mut capture, |found| apply(&copy, found));
        assert_ne!(capture.position.salts, before);
        let of_copy = Connection::open(&copy).unwrap();
        let sum = "SELECT sum(x) + sum(length(filling)) FROM t";
        let [one, two] = [&conn, &of_copy]
            .map(|conn| conn.query_row(sum, [], |row| row.get::<_, i64>(0)).unwrap());
        assert_eq!(one, two);
    }
}

#[test]
fn what_a_copied_wal_has_behind_the_place_is_not_kept_so_that_it_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    let conn = create(&path);
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1, 1, NULL)").unwrap();
    let (mut capture, _) = start(&path, None);
    assert_eq!(renewed(&mut capture, |_| {}), 1);
    let position = capture.position;
    drop(capture);
    conn.execute_batch("INSERT INTO t VALUES (2, 2, NULL)").unwrap();
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let (mut capture, gap) = start(&path, Some(position));
    // It begins the WAL anew.
    conn.execute_batch("INSERT INTO t VALUES (3, 3, NULL)").unwrap();
    assert_eq!(gap, Err(CaptureGap::Restarted));
    assert_eq!(renewed(&mut capture, |_| {}), 1);
}

#[test]
fn without_a_wal_no_place_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    drop(create(&path));
    let (mut capture, _) = start(&path, None);
    let Captured::Nothing(place) = capture.capture().unwrap() else {
        panic!("nothing was written")
    };
    drop(capture);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("INSERT INTO t VALUES (1, 1, NULL)").unwrap();
    drop(conn);
    let (_capture, gap) = start(&path, Some(place.position));
    assert_eq!(gap, Err(CaptureGap::Restarted));
}

#[test]
fn what_was_captured_is_not_read_any_more_once_the_capture_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    let conn = create(&path);
    conn.execute_batch("INSERT INTO t VALUES (1, 1, NULL)").unwrap();
    let (mut capture, _) = start(&path, None);
    let Captured::Pages(found) = capture.capture().unwrap() else { panic!("nothing was captured") };
    let mut image = vec![0; found.page_bytes() as usize];
    found.read(0, &mut image).unwrap();
    drop(capture);
    assert!(found.read(0, &mut image).is_err());
}

#[test]
fn what_is_in_the_file_when_it_begins_is_not_captured_since_it_may_be_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cts.db");
    let conn = create(&path);
    conn.execute_batch("INSERT INTO t VALUES (1, 1, randomblob(5000))").unwrap();
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let in_file = fs::read(&path).unwrap();
    let (mut capture, _) = start(&path, None);
    let captured = capture.capture().unwrap();
    // It begins the WAL anew.
    conn.execute_batch("INSERT INTO t VALUES (2, 2, randomblob(9000))").unwrap();
    if let Captured::Pages(found) = captured {
        let mut image = vec![0; PAGE_BYTES as usize];
        for (place, page) in found.numbers().iter().enumerate() {
            found.read(place, &mut image).unwrap();
            let at = (page - 1) as usize * PAGE_BYTES as usize;
            assert!(in_file[at..].starts_with(&image), "page {page} is another");
        }
    }
    let Captured::Pages(found) = capture.capture().unwrap() else { panic!("nothing was captured") };
    assert_eq!(found.commits, 1);
}
