//! What the archive of every change gives reason for. None of it makes a database unusable: programs trade without it.

use super::conditions::Subject;
use super::reason::Reason;
use super::report::Report;
use crate::archive::ArchiveStatus;
use crate::backup::Inspector;

impl Report {
    /// Adds how the archive is doing, and what that gives reason for. What the service has found is among the reasons
    /// already.
    pub fn with_archive(mut self, status: Option<ArchiveStatus>, inspector: Inspector) -> Report {
        if let (Some(status), Inspector::Command) = (&status, inspector) {
            self.reasons_found.extend(archive_reasons(status));
        }
        self.archive = status;
        self
    }
}

/// What is not as it should be.
fn archive_reasons(status: &ArchiveStatus) -> impl Iterator<Item = Reason> {
    let about = |subject: Subject, what: &String| format!("{}{what}", subject.failure());
    let problem = status.problem.as_ref();
    let problem = problem.map(|what| Reason::warning(about(Subject::Archive, what)));
    let failure = status.drill.as_ref().and_then(|drill| drill.failure.as_ref());
    let failure = failure.map(|what| Reason::warning(about(Subject::ArchiveDrill, what)));
    let unknown = status.unknown.as_ref();
    let unknown =
        unknown.map(|what| Reason::notice(format!("how the archive is doing is unknown: {what}")));
    [problem, failure, unknown].into_iter().flatten()
}
