//! A migration, an online index build and an adoption that are under way when the primary changes: nothing of
//! them is left on a server that is no longer the primary, and the next run completes them on the new one.

use std::thread;
use std::time::Instant;

use postgres::Client;

use crate::support::cluster::Database;
use crate::support::harness::{Run, Service, await_that};
use crate::support::patroni::{Node, Patroni};

use super::Failure;

/// Runs of a command that systemd starts again when a server was lost.
const RUNS_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Migration,
    OnlineIndex,
    Adoption,
}

/// Makes a migration pending that has a table to create and an index to build.
const PENDING: &str = "DELETE FROM migrations WHERE id > 1; DROP TABLE indication_states; \
    DROP INDEX idx_pseudo_positions_live";
/// More rows than are indexed in a transaction.
const FILLED: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('a', 'x');
    INSERT INTO pseudo_positions (connection_id, symbol) SELECT 'a', 'S' FROM generate_series(1, 30000);
    DROP INDEX idx_pseudo_positions_status";
/// A database of an older CTS.
const OLDER: &str = "
    CREATE TABLE migrations (id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE NOT NULL, executed_at TIMESTAMP);
    INSERT INTO migrations (name) VALUES ('unified_001');
    CREATE TABLE users (id SERIAL PRIMARY KEY, username VARCHAR(255) UNIQUE NOT NULL, is_active INTEGER DEFAULT 1);
    INSERT INTO users (username) SELECT 'user ' || g FROM generate_series(1, 500) g;
    CREATE TABLE exchange_connections (id SERIAL PRIMARY KEY, name VARCHAR(255) NOT NULL, exchange VARCHAR(50), is_enabled INTEGER);
    INSERT INTO exchange_connections (name, exchange, is_enabled) VALUES ('main', 'binance', 1), ('second', 'okx', 0);
    CREATE TABLE pseudo_positions (id SERIAL PRIMARY KEY, connection_id INTEGER, symbol VARCHAR(20) NOT NULL, entry_price NUMERIC(20,8));
    INSERT INTO pseudo_positions (connection_id, symbol, entry_price) SELECT 1, 'S', g + 0.25 FROM generate_series(1, 500) g";
/// The lock of a writer in a transaction that is still open; the work waits for it.
const HELD: &str = "LOCK TABLE pseudo_positions IN ROW EXCLUSIVE MODE";

impl Work {
    /// Makes the database that has this to be done.
    fn prepares(self, database: &Database) {
        if self == Work::Adoption {
            return database.sql(OLDER);
        }
        database.cts("migrate").success();
        database.sql(if self == Work::Migration { PENDING } else { FILLED });
    }

    /// The rows that the database had before: users, and positions.
    fn rows(self) -> [i64; 2] {
        match self {
            Work::Migration => [0, 0],
            Work::OnlineIndex => [0, 30_000],
            Work::Adoption => [500, 500],
        }
    }

    fn is_whole(self, database: &Database) {
        database.cts("verify").success().says(&["no drift"]);
        assert_eq!(database.invalid(), Vec::<String>::new(), "{self:?}");
        let count = |table| database.number(&format!("SELECT count(*) FROM {table}"));
        let rows = ["users", "pseudo_positions"].map(count);
        assert_eq!(rows, self.rows(), "{self:?}");
        let ledger = "SELECT count(*) FROM migrations WHERE checksum IS NOT NULL";
        // An adoption records the fallback too.
        let is_adopted = self == Work::Adoption;
        assert_eq!(database.number(ledger), if is_adopted { 5 } else { 4 }, "{self:?}");
        let prices = "SELECT count(*) FROM pseudo_positions WHERE entry_price > 0";
        assert_eq!(database.number(prices), if is_adopted { 500 } else { 0 }, "{self:?}");
    }
}

/// It waits for locks until after the next primary is elected.
fn migrate(database: &Database, url: &str) -> Run {
    database.cts("migrate").env("DATABASE_URL", url).env("CTS_LOCK_TIMEOUT", "300s")
}

/// One piece of work on a database of its own, by one way to the cluster.
struct Trial<'a> {
    work: Work,
    is_proxied: bool,
    url: String,
    /// The database on the leader that is to fail.
    database: Database<'a>,
    holder: Client,
    run: Service,
}

impl<'a> Trial<'a> {
    /// Starts the work, and waits until it waits for the transaction of a trading program.
    fn start(patroni: &'a Patroni, work: Work, is_proxied: bool) -> Trial<'a> {
        let database = patroni.database();
        work.prepares(&database);
        let mut holder = database.open();
        holder.batch_execute(&format!("BEGIN; {HELD}")).unwrap();
        let url = if is_proxied { patroni.proxied_url(&database) } else { patroni.url(&database) };
        let run = migrate(&database, &url).start();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
            AND datname = current_database()";
        await_that("the work waits for a lock", || database.number(waits) > 0);
        Trial { work, is_proxied, url, database, holder, run }
    }

    /// Waits until nothing of it is on the old primary, ends the transaction it waited for, and expects that nothing
    /// is written there.
    fn leaves(&mut self, failure: Failure, old: &Node) {
        if failure != Failure::PatroniKilled {
            return;
        }
        let before = self.database.everything();
        let leaves = || {
            await_that("it has left the old primary", || self.database.sessions_of_cts() == 0);
        };
        // A transaction is not committed before it is known that no other server was promoted. An online build
        // has no such moment, and is given up once that is known.
        if self.is_proxied || self.work == Work::OnlineIndex {
            leaves();
        }
        self.holder.batch_execute("ROLLBACK").unwrap();
        leaves();
        let after = self.database.everything();
        let change = after.iter().find(|line| !before.contains(line));
        let written = change.is_some() || before.len() != after.len();
        assert!(!written, "{:?} wrote to {}: {change:?}", self.work, old.host());
    }

    /// Waits for the end of the run, and starts it again as systemd does where a server was lost.
    fn completes(self, failure: Failure, new: &Node) {
        let what = format!("{failure:?}, {:?}, proxied: {}", self.work, self.is_proxied);
        let (mut code, mut log) = self.run.end();
        let mut codes = vec![code];
        while code != Some(0) {
            assert!(matches!(code, Some(69 | 75)) && codes.len() < RUNS_MAX, "{what}: {log}");
            (code, log) = migrate(&self.database, &self.url).start().end();
            codes.push(code);
        }
        eprintln!("{what}: exit codes {codes:?}");
        self.work.is_whole(&self.database.on(&new.server));
    }
}

fn survives(failure: Failure, patroni: &Patroni) {
    let mut trials = Vec::new();
    for work in [Work::Migration, Work::OnlineIndex, Work::Adoption] {
        for is_proxied in [false, true] {
            trials.push(Trial::start(patroni, work, is_proxied));
        }
    }
    let old = patroni.leader();
    let start = Instant::now();
    failure.happens_to(old, patroni);
    let new = failure.next_primary(old, patroni);
    thread::scope(|scope| {
        for mut trial in trials {
            scope.spawn(move || {
                trial.leaves(failure, old);
                trial.completes(failure, new);
            });
        }
    });
    failure.ends(old, patroni);
    eprintln!("{failure:?}: all is whole after {:?}", start.elapsed());
}

#[test]
#[ignore = "sweep"]
fn work_that_is_under_way_is_completed_on_the_next_primary() {
    let Some(patroni) = Patroni::start() else { return };
    for failure in Failure::ALL {
        survives(failure, &patroni);
    }
}
