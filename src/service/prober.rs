//! Asks the thread that owns the database for reports, with a time limit: a database that hangs does not
//! hang those who ask.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::archive::{ArchiveStatus, ArchiveWriter};
use crate::backup::Inspector;
use crate::error::{Error, Kind, Result};
use crate::health::render::Scrape;
use crate::health::{Conditions, FigureWatch, History, Overview, ProbeTimes, Report};
use crate::http::counters::HttpCounters;
use crate::http::source::Source;
use crate::service::backup_watch::BackupWatch;
use crate::service::database_thread::DatabaseThread;
use crate::service::upkeep::UpkeepThread;
use crate::store::journal::Journal;
use crate::store::{Database, SiteLogEntry, Store};
use crate::system::log::Log;
use crate::system::process_figures::ProcessFigures;

/// How long a request waits for a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an overview waits for the journal, after its report has come: the database thread may have other work.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(1);
/// A report is shown to further scrapes for so long.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// What the database thread is asked.
pub enum Question {
    /// For a report.
    Report(Sender<Report>),
    /// For the journal.
    Journal(Sender<Journal>),
    /// To write a row into `site_logs`, as soon as that is possible.
    Record(SiteLogEntry),
    /// To record the stop of the service, and to close the database.
    Close(Sender<Result<()>>),
}

/// Asks for reports; every thread has a clone.
#[derive(Clone)]
pub struct Prober {
    database: Arc<dyn Database>,
    conditions: Conditions,
    backups: BackupWatch,
    archive: Option<Arc<ArchiveWriter>>,
    history: History,
    figures: FigureWatch,
    probes: ProbeTimes,
    counters: HttpCounters,
    state: Arc<Mutex<ProberState>>,
}

struct ProberState {
    /// What is being done while the database is not ready yet.
    activity: String,
    /// The channel to the database thread, once the database is ready.
    questions: Option<Sender<Question>>,
    /// When the database thread last finished a report or a write.
    finished_at: Instant,
    /// When the first question was asked that is not answered yet.
    unanswered_since: Option<Instant>,
    /// The report that the last scrape showed, and when it was asked for.
    scraped: Option<(Instant, Arc<Report>)>,
}

impl Prober {
    /// A prober of a database that is not open yet.
    pub fn new(
        database: Arc<dyn Database>,
        conditions: Conditions,
        backups: BackupWatch,
        archive: Option<Arc<ArchiveWriter>>,
    ) -> Prober {
        let state = ProberState {
            activity: "starting".into(),
            questions: None,
            finished_at: Instant::now(),
            unanswered_since: None,
            scraped: None,
        };
        let figures = FigureWatch::default();
        Prober {
            database,
            conditions,
            backups,
            archive,
            history: History::start(figures.clone()),
            figures,
            probes: ProbeTimes::default(),
            counters: HttpCounters::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, ProberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults that the threads of the service know.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What the folder of backups holds.
    pub fn backups(&self) -> &BackupWatch {
        &self.backups
    }

    /// What writes the archive, if there is one.
    pub fn archive(&self) -> Option<&ArchiveWriter> {
        self.archive.as_deref()
    }

    /// The same, for another thread.
    pub fn shared_archive(&self) -> Option<Arc<ArchiveWriter>> {
        self.archive.clone()
    }

    /// How the archive is doing; `None` where there is none.
    fn archive_status(&self) -> Option<ArchiveStatus> {
        self.archive().map(ArchiveWriter::status)
    }

    /// The figures that are taken now and then.
    pub fn figures(&self) -> &FigureWatch {
        &self.figures
    }

    /// The counters of HTTP, which the metrics show.
    pub fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    /// The report for a scrape, which may be that of the last one if it is young.
    fn report_for_scrape(&self) -> Arc<Report> {
        let asked_at = Instant::now();
        let last = self.state().scraped.clone();
        if let Some((at, report)) = last
            && asked_at.duration_since(at) < SCRAPE_INTERVAL
        {
            return report;
        }
        let report = Arc::new(self.report());
        self.state().scraped = Some((asked_at, Arc::clone(&report)));
        report
    }

    /// Sets what is being done until the database is ready.
    pub fn set_activity(&self, activity: impl Into<String>) {
        self.state().activity = activity.into();
    }

    /// What is being done until the database is ready.
    pub fn activity(&self) -> String {
        self.state().activity.clone()
    }

    /// The time since the database thread last finished a report or a write.
    pub fn silence(&self) -> Duration {
        self.state().finished_at.elapsed()
    }

    /// The error of a database that has not answered for so long.
    pub fn no_answer(&self, silence: Duration) -> Error {
        let what = format!("the database did not answer within {} s", silence.as_secs());
        Error::new(Kind::Io, what).remedy(self.database.identity().no_answer_remedy)
    }

    fn unanswered(&self) -> Report {
        let report = Report::unreachable(&*self.database, &self.no_answer(REPORT_TIMEOUT))
            .with_conditions(&self.conditions.current())
            .with_backups(self.backups.inspect())
            .with_archive(self.archive_status(), Inspector::Service);
        self.history.note(&report);
        report
    }

    fn initializing(&self, activity: &str) -> Report {
        let report = Report::initializing(&*self.database, activity)
            .with_backups(self.backups.inspect())
            .with_archive(self.archive_status(), Inspector::Service);
        self.history.note(&report);
        report
    }

    /// The journal, or an empty one where that takes too long.
    fn journal(&self) -> Journal {
        let questions = self.state().questions.clone();
        let (reply, replies) = mpsc::channel();
        let asked = questions.map(|questions| questions.send(Question::Journal(reply)));
        let answer = asked.and_then(|_| replies.recv_timeout(JOURNAL_TIMEOUT).ok());
        answer.unwrap_or_default()
    }

    /// Has a row written into `site_logs`. Does not wait for it; a service that stops writes it no more.
    pub fn record(&self, entry: SiteLogEntry) {
        let questions = self.state().questions.clone();
        let _ = questions.map(|questions| questions.send(Question::Record(entry)));
    }

    /// Records the stop of the service in `site_logs` and closes the database.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`] if that takes longer than `timeout`, or the error of the closing. Committed changes
    /// remain in the WAL.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        let Some(questions) = self.state().questions.take() else {
            return Ok(());
        };
        let (reply, replies) = mpsc::channel();
        if questions.send(Question::Close(reply)).is_err() {
            return Ok(());
        }
        replies.recv_timeout(timeout).unwrap_or_else(|_| {
            let what = format!("the database was not closed within {} s", timeout.as_secs());
            Err(Error::new(Kind::Io, what))
        })
    }

    /// Runs the database thread until it is asked to close. `store` must be writable at this moment;
    /// `upkeep` ends before the store is closed.
    pub fn run(
        &self,
        store: Box<dyn Store>,
        upkeep: Option<UpkeepThread>,
        log: Log,
        ready: impl FnOnce(),
    ) {
        let (sender, questions) = mpsc::channel();
        self.state().questions = Some(sender);
        self.note_finished();
        ready();
        let database = Arc::clone(&self.database);
        let (conditions, backups) = (self.conditions.clone(), self.backups.clone());
        let (history, probes) = (self.history.clone(), self.probes.clone());
        let mut thread =
            DatabaseThread::new(database, store, conditions, backups, history, probes, log);
        while let Some(closing) = thread.turn(&questions) {
            self.note_finished();
            if let Some(reply) = closing {
                let _ = reply.send(thread.close(upkeep));
                return;
            }
        }
    }

    fn note_finished(&self) {
        let mut state = self.state();
        state.finished_at = Instant::now();
        state.unanswered_since = None;
    }
}

impl Source for Prober {
    fn metrics(&self) -> String {
        let scrape = Scrape {
            report: self.report_for_scrape(),
            figures: self.figures.current(),
            probes: self.probes.recorded(),
            http: self.counters.figures(),
            process: ProcessFigures::read(),
        };
        scrape.text()
    }

    fn report(&self) -> Report {
        let (questions, activity, unanswered_since) = {
            let mut state = self.state();
            let since = *state.unanswered_since.get_or_insert_with(Instant::now);
            (state.questions.clone(), state.activity.clone(), since)
        };
        let Some(questions) = questions else {
            return self.initializing(&activity);
        };
        // If a question is unanswered for so long, the next one would only wait as long: all slots for
        // clients would fill with requests that wait.
        if unanswered_since.elapsed() >= REPORT_TIMEOUT {
            return self.unanswered();
        }
        let (reply, replies) = mpsc::channel();
        if questions.send(Question::Report(reply)).is_err() {
            return self.unanswered();
        }
        match replies.recv_timeout(REPORT_TIMEOUT) {
            Ok(report) => {
                self.state().unanswered_since = None;
                report.with_archive(self.archive_status(), Inspector::Service)
            }
            Err(_) => self.unanswered(),
        }
    }

    fn overview(&self, with_history: bool) -> Overview {
        let report = self.report();
        // A database that has not answered is not asked again.
        let journal = if report.connected { self.journal() } else { Journal::default() };
        let history = with_history.then(|| self.history.points());
        let figures = self.figures.current();
        Overview { report, figures, history, journal, started_at: self.history.started_at() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::BackupSettings;
    use crate::config::DEFAULT_BACKUP_KEEP;
    use crate::store::sqlite::{DatabaseFile, FileAccess};
    use crate::system::log::Verbosity;

    #[test]
    fn a_database_that_hangs_is_not_waited_for_by_every_request() {
        let (path, access) = ("/data/cts.db".into(), FileAccess::default());
        let conditions = Conditions::new(Log::new(Verbosity::Quiet));
        let keep = DEFAULT_BACKUP_KEEP.parse().unwrap();
        let settings = BackupSettings { folder: None, every: None, keep, compress: false };
        let database = Arc::new(DatabaseFile { path, access });
        let backups = BackupWatch::start(&settings, database.identity());
        let prober = Prober::new(database, conditions, backups, None);
        let (sender, questions) = mpsc::channel();
        prober.state().questions = Some(sender);
        prober.state().unanswered_since = Instant::now().checked_sub(REPORT_TIMEOUT);
        let start = Instant::now();
        let report = prober.report();
        assert!(start.elapsed() < REPORT_TIMEOUT, "{:?}", start.elapsed());
        assert!(!report.connected && report.health_json().contains("did not answer within 3 s"));
        assert!(questions.try_recv().is_err(), "questions pile up");
        // It has answered.
        prober.state().unanswered_since = None;
        let asking = {
            let prober = prober.clone();
            std::thread::spawn(move || prober.report().connected)
        };
        let Question::Report(reply) = questions.recv().unwrap() else { panic!("another question") };
        drop(reply);
        assert!(!asking.join().unwrap());
    }
}
