//! How long writers are blocked for a reset of the WAL, and when it is left to others.

use rusqlite::config::DbConfig;

use super::*;
use crate::store::sqlite::running_copy::RunningCopy;
use crate::store::sqlite::wal_length::{LONG_WAL_BYTES, kept_wal};
use crate::store::sqlite::wal_writes::CUT_BYTES;

/// A database with a WAL, and a reader of it that does not end.
fn held_wal(folder: &Path) -> (PathBuf, Connection) {
    let path = folder.join("cts.db");
    let writer = Connection::open(&path).unwrap();
    let create = "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)";
    writer.execute_batch(create).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    (path, reader)
}

fn checkpointer(path: &Path) -> Checkpointer {
    let never = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(LOCK_TIMEOUT, &never);
    Checkpointer::open(path, Overwritten::default(), WalHold::default(), None, &wait).unwrap()
}

fn can_write(path: &Path) -> bool {
    let writer = Connection::open(path).unwrap();
    writer.busy_timeout(Duration::ZERO).unwrap();
    writer.execute_batch("INSERT INTO t VALUES (3)").is_ok()
}

#[test]
fn writers_wait_until_the_reader_ends_or_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    let first = upkeep.reset.block_max();
    upkeep.reset_wal("RESTART", &stopping).unwrap();
    assert_eq!(upkeep.reset.block_max(), first * 2, "it was in vain");
    assert!(can_write(&path));
    let ends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(reader);
    });
    upkeep.reset_wal("RESTART", &stopping).unwrap();
    assert!(!upkeep.reset.is_due(Instant::now()) && can_write(&path));
    ends.join().unwrap();
    let frames = upkeep.checkpoint("RESTART").unwrap().unwrap();
    assert!(frames.total == frames.copied && frames.total <= 2, "the WAL began anew");
}

#[test]
fn a_stop_releases_the_write_lock_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _reader) = held_wal(folder.path());
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    while upkeep.reset.block_max() < Duration::from_secs(2) {
        upkeep.reset.failed(Instant::now());
    }
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| upkeep.reset_wal("RESTART", &stopping).unwrap());
        while can_write(&path) {
            assert!(began.elapsed() < LOCK_TIMEOUT, "writers are not blocked");
        }
        stopping.store(true, Ordering::Relaxed);
    });
    assert!(can_write(&path));
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

/// Writes this many bytes into the table.
fn write(path: &Path, bytes: u64) {
    let writer = Connection::open(path).unwrap();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    writer.execute("INSERT INTO t VALUES (zeroblob(?1))", [bytes]).unwrap();
}

#[test]
fn a_database_with_tables_of_litestream_is_left_to_it_until_the_wal_is_long() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    reader.execute_batch("COMMIT; CREATE TABLE _litestream_seq (id, seq)").unwrap();
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    write(&path, RESET_BYTES / 2);
    upkeep.turn(&stopping).unwrap();
    let frames = upkeep.checkpoint("NOOP").unwrap().unwrap();
    assert!(frames.total > 2 && frames.copied == 0, "it was checkpointed");
    write(&path, RESET_BYTES / 2);
    upkeep.turn(&stopping).unwrap();
    assert_eq!(upkeep.wal_file_bytes(), 0, "it is emptied");
    assert!(can_write(&path));
    reader.execute_batch("DROP TABLE _litestream_seq").unwrap();
    upkeep.due = Instant::now();
    upkeep.turn(&stopping).unwrap();
    let frames = upkeep.checkpoint("NOOP").unwrap().unwrap();
    assert_eq!(frames.total, frames.copied, "it is checkpointed as any other");
}

#[test]
fn a_program_that_writes_for_long_is_no_reader_that_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    reader.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    let first = upkeep.reset.block_max();
    upkeep.reset_wal("RESTART", &stopping).unwrap();
    assert_eq!(upkeep.reset.block_max(), first);
    assert!(upkeep.reset.is_due(Instant::now()));
}

#[test]
fn writers_are_not_blocked_while_a_copy_is_made_and_a_long_wal_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    let upkeep = checkpointer(&path);
    let total = i64::try_from(RESET_BYTES / frame_bytes(upkeep.page_bytes) + 1).unwrap();
    let long = WalFrames { total, copied: total, is_blocked: false };
    assert!(upkeep.must_reset(&long, false));
    let copies = [RunningCopy::announce(&path), RunningCopy::announce(&path)];
    assert!(copies.iter().all(Option::is_some) && !upkeep.must_reset(&long, false));
    let wal = fs::OpenOptions::new().write(true).open(side_file(&path, "-wal")).unwrap();
    wal.set_len(LONG_WAL_BYTES).unwrap();
    let is_fault = || kept_wal(&path, None).is_some_and(|kept| !kept.is_by_cts);
    assert!(kept_wal(&path, None).is_some_and(|kept| kept.is_by_cts));
    wal.set_len(1).unwrap();
    let held = kept_wal(&path, Some(Duration::from_secs(70)));
    assert!(held.is_some_and(|kept| kept.is_by_cts), "a short one too");
    // A copy gives up before the WAL is so long, so that one which has not is stopped.
    wal.set_len(running_copy::wal_bytes_max(&path)).unwrap();
    assert!(is_fault() && running_copy::refuse_long_wal(&path).is_err());
    wal.set_len(LONG_WAL_BYTES).unwrap();
    assert!(running_copy::refuse_long_wal(&path).is_ok());
    drop(copies);
    assert!(upkeep.must_reset(&long, false) && is_fault());
    drop(reader);
}

#[test]
fn a_turn_is_not_waited_for_once_much_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    drop(reader);
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    assert!(upkeep.turn(&stopping).unwrap().was_tried, "the first one is due");
    write(&path, 1);
    let look = upkeep.turn(&stopping).unwrap();
    assert_eq!((look.was_tried, look.pause), (false, SHORT_LOOK_PAUSE));
    let look = upkeep.turn(&stopping).unwrap();
    assert_eq!((look.was_tried, look.pause), (false, LOOK_PAUSE), "nothing more was written");
    write(&path, LONG_BYTES);
    assert!(upkeep.turn(&stopping).unwrap().was_tried);
    let frames = upkeep.checkpoint("NOOP").unwrap().unwrap();
    assert_eq!(frames.total, frames.copied);
}

#[test]
fn a_long_wal_file_is_shortened_in_parts_while_programs_write_and_at_once_when_none_does() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = held_wal(folder.path());
    let (mut upkeep, stopping) = (checkpointer(&path), Arc::new(AtomicBool::new(false)));
    let long = TRUNCATE_BYTES + 3 * CUT_BYTES;
    write(&path, long);
    let before = upkeep.wal_file_bytes();
    upkeep.turn(&stopping).unwrap();
    assert_eq!(upkeep.wal_file_bytes(), before, "all of it is used");
    drop(reader);
    upkeep.checkpoint("RESTART").unwrap();
    for part in 1..=3 {
        write(&path, 1);
        upkeep.due = Instant::now();
        upkeep.turn(&stopping).unwrap();
        assert_eq!(upkeep.wal_file_bytes(), before - part * CUT_BYTES);
    }
    let rows = "SELECT count(*), sum(length(x)) FROM t";
    let program = Connection::open(&path).unwrap();
    let found = program.query_row(rows, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(found, (6, long + 5));
    // The WAL is long once more, and nobody writes.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t LIMIT 1").unwrap();
    write(&path, TRUNCATE_BYTES);
    upkeep.turn(&stopping).unwrap();
    drop(reader);
    upkeep.reset.observe(0, 0, Instant::now());
    for _ in 0..2 {
        upkeep.due = Instant::now();
        upkeep.turn(&stopping).unwrap();
    }
    assert_eq!(upkeep.wal_file_bytes(), 0);
}
