//! The suite that both stores pass: each test runs on SQLite and on PostgreSQL.

#[cfg(feature = "postgres")]
use crate::support::cluster::Database;
use crate::support::harness::{Machine, Run, Service};

/// An empty database on either store, and the commands that are run on it.
trait AnyStore {
    /// The name of the store in JSON.
    fn kind(&self) -> &'static str;
    fn cts(&self, words: &str) -> Run;
    fn sql(&self, sql: &str);
    fn texts(&self, sql: &str) -> Vec<String>;
    /// The whole content, to detect any change.
    fn everything(&self) -> Vec<String>;

    fn number(&self, sql: &str) -> i64 {
        self.texts(&format!("SELECT CAST(({sql}) AS TEXT)"))[0].parse().unwrap()
    }

    fn migrate(&self) {
        self.cts("migrate").success();
    }

    fn serve(&self) -> Service {
        self.cts("serve --port 0").start()
    }

    /// Runs a command, expects this exit code and these texts, and that nothing was changed.
    fn changes_nothing(&self, words: &str, code: i32, says: &[&str]) {
        let before = self.everything();
        let done = self.cts(words).status(code);
        assert_eq!(self.everything(), before, "{words}");
        done.says(says);
    }

    /// Expects every writing command to be refused with this exit code and these texts, without a
    /// change.
    fn refuses(&self, code: i32, says: &[&str]) {
        for words in ["migrate", "serve --port 0", "repair"] {
            self.changes_nothing(words, code, says);
        }
    }
}

impl AnyStore for Machine {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn cts(&self, words: &str) -> Run {
        Machine::cts(self, words)
    }

    fn sql(&self, sql: &str) {
        Machine::sql(self, sql);
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        Machine::texts(self, sql)
    }

    fn everything(&self) -> Vec<String> {
        self.files().into_iter().map(|file| format!("{file:?}")).collect()
    }
}

#[cfg(feature = "postgres")]
impl AnyStore for Database<'_> {
    fn kind(&self) -> &'static str {
        "postgresql"
    }

    fn cts(&self, words: &str) -> Run {
        Database::cts(self, words)
    }

    fn sql(&self, sql: &str) {
        Database::sql(self, sql);
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        Database::texts(self, sql)
    }

    fn everything(&self) -> Vec<String> {
        Database::everything(self)
    }
}

/// Makes two tests of each function: one on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&crate::support::harness::Machine::new()); })*
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $name() {
                super::$name(&crate::support::cluster::Cluster::shared().owned());
            })*
        }
    };
}

mod acceptance;
mod answers;
mod clock;
mod counters;
mod drift;
mod final_statistics;
mod ledger;
mod overview;
mod plan;
mod retention;
mod runs;
mod statistics;
mod stats;

const FILES: [&str; 4] = [
    "unified_complete_setup.sql",
    "051_add_performance_indexes.sql",
    "070_high_frequency_performance_indexes.sql",
    "071_add_coordination_tables.sql",
];

/// The text of each line that follows these words, up to a colon or bracket.
fn named(log: &str, words: &str) -> Vec<String> {
    let named = log.lines().filter_map(|line| Some(line.split_once(words)?.1));
    named.map(|rest| rest.split([':', '(']).next().unwrap().trim().to_string()).collect()
}
