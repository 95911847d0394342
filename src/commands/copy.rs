//! `cts copy`.

use std::path::PathBuf;

use super::interruptible;
use crate::config::{CopyConfig, Flags, unknown_variables};
use crate::copy::render::{CopyResult, problems_error, report_json, report_text};
use crate::copy::{
    CopyPlan, CopyReport, SkippedRows, Survey, plan, refuse_rows_beforehand, survey, transfer,
};
use crate::error::Result;
use crate::store::{Backend, CopySource, Database, WaitPolicy};
use crate::system::environment::{self, Environment};
use crate::system::log::{Log, Verbosity};
use crate::system::output::{print_json, print_lines};

/// What a copy is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// Which database is written.
    pub to: Backend,
    /// Print what would be done and change nothing.
    pub dry_run: bool,
    /// Copy the owner's columns and tables too.
    pub with_extra: bool,
    /// Where the rows go that cannot be copied; `None`: then nothing is copied.
    pub skip_bad: Option<PathBuf>,
    /// Print JSON.
    pub json: bool,
}

/// Copies the database of one store into an empty one on the other, and prints the proof that both are equal.
///
/// # Errors
/// Why that cannot be done. The target is as it was, unless the error says that the commit is in doubt; the source is
/// never changed.
pub fn run(flags: &Flags, variables: Environment<'_>, options: &CopyOptions) -> Result<u8> {
    let config = CopyConfig::load(flags, variables)?;
    let log = Log::new(config.verbosity);
    log.report_panics();
    let notices = config.value_notices.iter().cloned();
    notices.chain(unknown_variables(&environment::all())).for_each(|notice| log.warn(notice));
    let (source, target) = match options.to {
        Backend::Postgresql => (&*config.sqlite, &*config.postgresql),
        Backend::Sqlite => (&*config.postgresql, &*config.sqlite),
    };
    let run = CopyRun { source, target, options, log, verbosity: config.verbosity };
    interruptible(config.lock_timeout, log, |wait| run.copy(wait))?;
    Ok(0)
}

struct CopyRun<'r> {
    source: &'r dyn Database,
    target: &'r dyn Database,
    options: &'r CopyOptions,
    log: Log,
    verbosity: Verbosity,
}

impl CopyRun<'_> {
    fn copy(&self, wait: &WaitPolicy<'_>) -> Result<()> {
        let options = self.options;
        let mut skipped = options.skip_bad.as_deref().map(SkippedRows::at).transpose()?;
        if let Some(mut target) = self.target.open_copy_target(wait)? {
            refuse_rows_beforehand(&mut *target, &self.target.identity())?;
        }
        let mut source = self.source.open_copy_source(wait)?;
        let (from, to) = (self.source.identity(), self.target.identity());
        let plan = plan(&mut *source, &from, &to, options.with_extra)?;
        self.log.info(format_args!("Copying {} to {}", from.location, to.location));
        // A dry run writes no file.
        let file = skipped.as_mut().filter(|_| !options.dry_run);
        let surveyed = survey(&mut *source, &plan, self.target, file, wait)?;
        if options.skip_bad.is_none() && !surveyed.problems.is_empty() {
            let is_listed = options.dry_run || options.json;
            if is_listed {
                self.print(&plan, &surveyed, None)?;
            }
            return Err(problems_error(&surveyed.problems, is_listed).at(from.location));
        }
        if options.dry_run {
            return self.print(&plan, &surveyed, None);
        }
        if let Some(skipped) = &mut skipped {
            skipped.sync()?;
        }
        self.transfer(&mut *source, &plan, &surveyed, wait)?;
        if let Some(path) = skipped.and_then(SkippedRows::keep) {
            let rows = surveyed.problems.rows;
            let rows = if rows == 1 { "1 row was".into() } else { format!("{rows} rows were") };
            self.log.warn(format_args!("{rows} left out: {}", path.display()));
        }
        Ok(())
    }

    fn transfer(
        &self,
        source: &mut dyn CopySource,
        plan: &CopyPlan,
        surveyed: &Survey,
        wait: &WaitPolicy<'_>,
    ) -> Result<()> {
        let report = transfer(source, plan, surveyed, self.target, wait)?;
        let (rows, to) = (surveyed.rows(), self.target.identity().location);
        self.log.info(format_args!("✓ Copied {rows} rows to {to}, equal on both sides"));
        self.print(plan, surveyed, Some(&report))
    }

    fn print(&self, plan: &CopyPlan, surveyed: &Survey, report: Option<&CopyReport>) -> Result<()> {
        let result = CopyResult {
            dry_run: self.options.dry_run,
            source: self.source.identity(),
            target: self.target.identity(),
            plan,
            surveyed,
            report,
        };
        if self.options.json {
            return print_json(&report_json(&result));
        }
        let mut lines = report_text(&result);
        if report.is_some() && self.verbosity > Verbosity::Quiet {
            lines.add(advice(self.options.to));
        }
        print_lines(&lines)
    }
}

/// What to do next.
fn advice(to: Backend) -> &'static str {
    match to {
        Backend::Postgresql => {
            "The SQLite database is as it was. To use the copy, set DATABASE_TYPE=postgresql for cts and the trading programs, and start them."
        }
        Backend::Sqlite => {
            "The PostgreSQL database is as it was. To use the copy, set DATABASE_TYPE=sqlite for cts and the trading programs, and start them."
        }
    }
}
