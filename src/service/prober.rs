//! The thread that owns the database while the appliance runs: it brings it up to date,
//! then answers every question with a look of its own and proves now and then that it can
//! be written. One connection, one thread; a database that hangs hangs nobody else.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::health::{Report, Surroundings, examine};
use crate::migrate::{bring_up_to_date, heal_in_passing};
use crate::service::upkeep::UpkeepThread;
use crate::store::{Database, ServerInstance, SiteLogEntry, Store, WaitPolicy, write_site_log};
use crate::system::log::Log;

/// How often writing is proved.
const BETWEEN_WRITES: Duration = Duration::from_secs(5);
/// How soon it is tried again where it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often what is missing is looked for.
const BETWEEN_HEALINGS: Duration = Duration::from_secs(60);
/// How long putting it back waits for other writers.
const HEALING_WITHIN: Duration = Duration::from_millis(500);
/// How long the note of the stop waits for other writers.
const NOTES_WITHIN: Duration = Duration::from_secs(1);
/// How long a question waits for the database.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

enum Question {
    /// How is it?
    Report(Sender<Report>),
    /// SiteLogEntry that the service stops, and close.
    Close(Sender<Result<()>>),
}

/// Where everybody else asks how the database is.
#[derive(Clone)]
pub struct Prober {
    database: Arc<dyn Database>,
    state: Arc<Mutex<ProberState>>,
}

struct ProberState {
    /// What is being done while the database is not ready yet.
    doing: String,
    /// The way to the thread, once it is.
    questions: Option<Sender<Question>>,
    /// When the thread last finished a look or a write.
    alive: Instant,
    /// When it was first asked what it has not answered since.
    asked: Option<Instant>,
}

impl Prober {
    /// A prober whose database is not open yet.
    pub fn new(database: Arc<dyn Database>) -> Prober {
        let doing = "starting".to_string();
        let state = ProberState { doing, questions: None, alive: Instant::now(), asked: None };
        Prober { database, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, ProberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is being done until the database is ready.
    pub fn doing(&self, what: impl Into<String>) {
        self.state().doing = what.into();
    }

    /// What is being done until the database is ready.
    pub fn what_is_done(&self) -> String {
        self.state().doing.clone()
    }

    /// How long ago the thread last finished a look or a write.
    pub fn silent_for(&self) -> Duration {
        self.state().alive.elapsed()
    }

    /// Asks how the database is; a look made after the question, or why there is none.
    pub fn report(&self) -> Report {
        let (questions, doing, asked) = {
            let mut state = self.state();
            let asked = *state.asked.get_or_insert_with(Instant::now);
            (state.questions.clone(), state.doing.clone(), asked)
        };
        let Some(questions) = questions else {
            return Report::initializing(&*self.database, &doing);
        };
        let silence = || {
            let what = format!("the database did not answer within {} s", ANSWER_WITHIN.as_secs());
            let error =
                Error::new(Kind::Io, what).remedy(self.database.identity().no_answer_remedy);
            Report::unreachable(&*self.database, &error)
        };
        // Who asks a database that hangs does not wait in vain as well: all the places for clients
        // would fill with those who do.
        if asked.elapsed() >= ANSWER_WITHIN {
            return silence();
        }
        let (answer, answers) = mpsc::channel();
        match questions.send(Question::Report(answer)) {
            Ok(()) => match answers.recv_timeout(ANSWER_WITHIN) {
                Ok(report) => {
                    self.state().asked = None;
                    report
                }
                Err(_) => silence(),
            },
            Err(_) => silence(),
        }
    }

    /// Notes that the service stops, tidies up and closes; at most `limit`.
    pub fn close(&self, limit: Duration) -> Result<()> {
        let Some(questions) = self.state().questions.take() else {
            return Ok(());
        };
        let (answer, answers) = mpsc::channel();
        match questions.send(Question::Close(answer)) {
            Ok(()) => answers.recv_timeout(limit).unwrap_or_else(|_| {
                Err(Error::new(
                    Kind::Io,
                    format!("the database was not closed within {} s", limit.as_secs()),
                ))
            }),
            Err(_) => Ok(()),
        }
    }

    /// Responder questions until it is told to close. Runs on the thread that owns `store`,
    /// which can be written at this moment; `keeper` ends before the store is closed.
    pub fn run(
        &self,
        store: Box<dyn Store>,
        keeper: Option<UpkeepThread>,
        log: Log,
        ready: impl FnOnce(),
    ) {
        let (sender, questions) = mpsc::channel();
        {
            let mut state = self.state();
            state.questions = Some(sender);
            state.alive = Instant::now();
            state.asked = None;
        }
        ready();
        let now = Instant::now();
        let mut owner = DatabaseThread {
            database: Arc::clone(&self.database),
            server: store.storage_status().server,
            trouble: None,
            store,
            log,
            unwritable: None,
            looked: now,
            unusable: None,
            next_write: now + BETWEEN_WRITES,
            next_healing: now + BETWEEN_HEALINGS,
        };
        while let Some(closing) = owner.turn(&questions) {
            {
                let mut state = self.state();
                state.alive = Instant::now();
                state.asked = None;
            }
            if let Some(answer) = closing {
                drop(keeper);
                let _ = answer.send(owner.close());
                return;
            }
        }
    }
}

struct DatabaseThread {
    database: Arc<dyn Database>,
    store: Box<dyn Store>,
    /// The server that was last found up to date.
    server: Option<ServerInstance>,
    /// Why the server that answers could not be brought up to date.
    trouble: Option<String>,
    log: Log,
    unwritable: Option<String>,
    /// When the last report was made.
    looked: Instant,
    /// Since when the database cannot be used.
    unusable: Option<Instant>,
    next_write: Instant,
    next_healing: Instant,
}

impl DatabaseThread {
    /// Waits for questions or for the next proof that writing works, and does it. `None`
    /// when nobody can ask any more; `Some(Some(_))` when it is time to close.
    fn turn(&mut self, questions: &Receiver<Question>) -> Option<Option<Sender<Result<()>>>> {
        let wait = self.next_write.saturating_duration_since(Instant::now());
        let first = match questions.recv_timeout(wait) {
            Ok(question) => Some(question),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let mut askers = Vec::new();
        // One look answers all who asked before it.
        for question in first.into_iter().chain(questions.try_iter()) {
            match question {
                Question::Report(answer) => askers.push(answer),
                Question::Close(answer) => return Some(Some(answer)),
            }
        }
        if !askers.is_empty() {
            let report = self.report();
            for answer in askers {
                // Who asked may have given up.
                let _ = answer.send(report.clone());
            }
            // One that is new here is looked into at once.
            if self.trouble.is_none() && self.is_another_server() {
                self.next_write = Instant::now();
            }
        }
        if Instant::now() >= self.next_write {
            self.unwritable = self.store.probe_write().err().map(|error| error.to_string());
            let pause = if self.unwritable.is_some() { AFTER_FAILURE } else { BETWEEN_WRITES };
            // The log tells an outage though nobody asks.
            if self.looked.elapsed() >= pause {
                self.report();
            }
            self.follow();
            self.next_write = Instant::now() + pause;
        }
        if Instant::now() >= self.next_healing {
            self.heal();
            self.next_healing = Instant::now() + BETWEEN_HEALINGS;
        }
        Some(None)
    }

    /// Whether the last look was answered by another server, after a restart or a failover, and
    /// it can be written.
    fn is_another_server(&self) -> bool {
        let status = self.store.storage_status();
        status.server != self.server && status.read_only.is_none()
    }

    /// Follows to another server. What it has is brought up to date: a standby that took over may
    /// lack what was committed last.
    fn follow(&mut self) {
        if !self.is_another_server() {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let wait = WaitPolicy::silent(HEALING_WITHIN, &stop);
        let found = self.store.storage_status().server;
        let name = found.as_ref().map(|server| server.name.clone()).unwrap_or_default();
        match bring_up_to_date(&mut *self.store, &wait) {
            Ok(outcome) => {
                let done = match outcome.applied() {
                    0 => "its schema is as expected".to_string(),
                    count => format!("{count} statements brought its schema up to date"),
                };
                self.log.info(format_args!("✓ The server {name} answers; {done}"));
                (self.server, self.trouble) = (found, None);
            }
            Err(error) => {
                let said = format!("the server {name} answers, but: {error}");
                if self.trouble.as_ref() != Some(&said) {
                    self.log.warn(&said);
                }
                self.trouble = Some(said);
            }
        }
    }

    /// Puts back what is missing, where that is done in a moment. What could not be done, or
    /// not in passing, is in every report.
    fn heal(&mut self) {
        let stop = Arc::new(AtomicBool::new(false));
        let wait = WaitPolicy::silent(HEALING_WITHIN, &stop);
        if let Ok(outcome) = heal_in_passing(&mut *self.store, &wait) {
            for object in outcome.put_back {
                self.log.warn(format_args!("{object} was missing and has been put back"));
            }
        }
    }

    fn report(&mut self) -> Report {
        let around =
            Surroundings { unwritable: self.unwritable.clone(), ..Surroundings::default() };
        let report = examine(&mut *self.store, around).unwrap_or_else(|error| {
            // What became of the file says more than the error that follows from it.
            let replaced = self.store.storage_status().replaced;
            let error = replaced.map_or(error, |why| Error::new(Kind::Io, why));
            Report::unreachable(&*self.database, &error)
        });
        self.looked = Instant::now();
        self.tell(&report);
        report
    }

    /// Says when the database cannot be used any more, and when it can be again.
    fn tell(&mut self, report: &Report) {
        match (self.unusable, report.status().is_usable()) {
            (None, false) => {
                self.unusable = Some(Instant::now());
                let reasons = report.reasons();
                let why = reasons.first().copied().unwrap_or_default();
                self.log.warn(format_args!("The database cannot be used: {why}"));
            }
            (Some(since), true) => {
                self.unusable = None;
                let seconds = since.elapsed().as_secs();
                self.log.info(format_args!("✓ The database can be used again, after {seconds} s"));
            }
            _ => {}
        }
    }

    fn close(mut self) -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let wait = WaitPolicy::silent(NOTES_WITHIN, &stop);
        let last = SiteLogEntry { level: "info", message: "the service stopped".into() };
        // A log line that cannot be written does not keep the service from stopping, nor does a
        // server that hangs: a look ends in time.
        let _ = self.store.inspect().and_then(|_| write_site_log(&mut *self.store, &wait, &last));
        self.store.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{DatabaseFile, FileAccess};

    #[test]
    fn a_database_that_hangs_is_not_waited_for_by_everybody() {
        let (path, access) = ("/data/cts.db".into(), FileAccess::default());
        let prober = Prober::new(Arc::new(DatabaseFile { path, access }));
        let (sender, questions) = mpsc::channel();
        prober.state().questions = Some(sender);
        prober.state().asked = Instant::now().checked_sub(ANSWER_WITHIN);
        let start = Instant::now();
        let report = prober.report();
        assert!(start.elapsed() < ANSWER_WITHIN, "{:?}", start.elapsed());
        assert!(!report.connected && report.health_json().contains("did not answer within 3 s"));
        assert!(questions.try_recv().is_err(), "questions pile up");
        // It has answered.
        prober.state().asked = None;
        let asking = {
            let prober = prober.clone();
            std::thread::spawn(move || prober.report().connected)
        };
        let Question::Report(answer) = questions.recv().unwrap() else { panic!("it is closed") };
        drop(answer);
        assert!(!asking.join().unwrap());
    }
}
