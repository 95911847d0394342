//! The summary of all findings: the status and exit code that follow from them, and their renderings.

use serde_json::json;

use crate::error::Result;
use crate::store::finding::{Finding, Grade};
use crate::system::count::counts;
use crate::system::log::Verbosity;
use crate::system::output::{print_json, print_lines};
use crate::system::version::VERSION;
use crate::system::visible::Lines;

/// The status of the examination as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoctorStatus {
    /// Nothing is wrong.
    Good,
    /// cts works, and at least one finding needs attention.
    Attention,
    /// At least one fault keeps cts from working.
    Bad,
    /// At least one necessary part could not be examined.
    Unknown,
}

impl DoctorStatus {
    /// The status that follows from the findings. A part that could not be examined counts more than
    /// one that needs attention: a database that was not examined is not good.
    fn of(findings: &[Finding]) -> DoctorStatus {
        let has = |grade| findings.iter().any(|finding| finding.grade == grade);
        if has(Grade::Bad) {
            DoctorStatus::Bad
        } else if has(Grade::Unknown) {
            DoctorStatus::Unknown
        } else if has(Grade::Attention) {
            DoctorStatus::Attention
        } else {
            DoctorStatus::Good
        }
    }

    fn name(self) -> &'static str {
        match self {
            DoctorStatus::Good => "good",
            DoctorStatus::Attention => "attention",
            DoctorStatus::Bad => "bad",
            DoctorStatus::Unknown => "unknown",
        }
    }

    /// The exit code of `cts doctor`.
    pub fn exit_code(self) -> u8 {
        match self {
            DoctorStatus::Good => 0,
            DoctorStatus::Attention => 1,
            DoctorStatus::Bad => 2,
            DoctorStatus::Unknown => 3,
        }
    }
}

/// Prints all findings by group, then the summary.
///
/// # Errors
///
/// [`Kind::Io`](crate::error::Kind::Io) if standard output cannot be written.
pub fn print_findings(
    mut findings: Vec<Finding>,
    verbosity: Verbosity,
    as_json: bool,
) -> Result<DoctorStatus> {
    findings.sort_by_key(|finding| finding.group);
    let status = DoctorStatus::of(&findings);
    match as_json {
        true => print_json(&json_report(status, &findings)),
        false => print_lines(&text_report(status, &findings, verbosity)),
    }?;
    Ok(status)
}

fn json_report(status: DoctorStatus, findings: &[Finding]) -> String {
    let finding = |finding: &Finding| {
        let Finding { group, name, grade, what, remedy } = finding;
        let status = match grade {
            Grade::Good => "good",
            Grade::Attention => "attention",
            Grade::Bad => "bad",
            Grade::Unknown | Grade::Skipped => "unknown",
        };
        json!({"group": group.name(), "name": name, "status": status, "what": what, "remedy": remedy})
    };
    let findings: Vec<_> = findings.iter().map(finding).collect();
    json!({"status": status.name(), "findings": findings, "version": VERSION}).to_string()
}

/// One line for each finding, its remedy below it; with `--quiet` without those that are good or were not
/// examined.
fn text_report(status: DoctorStatus, findings: &[Finding], verbosity: Verbosity) -> Lines {
    let is_shown = |finding: &&Finding| {
        verbosity > Verbosity::Quiet || !matches!(finding.grade, Grade::Good | Grade::Skipped)
    };
    let mut text = Lines::new();
    let mut group = None;
    for finding in findings.iter().filter(is_shown) {
        if group.replace(finding.group) != Some(finding.group) {
            text.add(finding.group.name());
        }
        let sign = match finding.grade {
            Grade::Good => "✓",
            Grade::Attention => "⚠",
            Grade::Bad => "✗",
            Grade::Unknown => "?",
            Grade::Skipped => "-",
        };
        text.add(format_args!("  {sign} {}: {}", finding.name, finding.what));
        if let Some(remedy) = &finding.remedy {
            text.add(format_args!("      {remedy}"));
        }
    }
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let summary = match status {
        DoctorStatus::Good => "all good".to_string(),
        _ => counts(&[
            (count(Grade::Bad), "bad", "bad"),
            (count(Grade::Unknown), "unknown", "unknown"),
            (count(Grade::Attention), "attention", "attention"),
        ]),
    };
    text.add(format_args!("{summary}; nothing was changed"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Group;

    fn seen(grades: &[Grade]) -> Vec<Finding> {
        let one = |grade: &Grade| Finding {
            grade: *grade,
            ..Finding::good(Group::Files, "file", "what").remedy("do it")
        };
        grades.iter().map(one).collect()
    }

    #[test]
    fn the_worst_grade_decides_and_what_was_not_examined_does_not() {
        use Grade::{Attention, Bad, Good, Skipped, Unknown};
        for (grades, code) in [
            (&[Good, Skipped][..], 0),
            (&[Good, Attention], 1),
            (&[Attention, Unknown], 3),
            (&[Unknown, Bad, Attention], 2),
        ] {
            assert_eq!(DoctorStatus::of(&seen(grades)).exit_code(), code, "{grades:?}");
        }
    }

    #[test]
    fn text_has_a_sign_a_line_and_the_remedy_below_it() {
        let mut all = seen(&[Grade::Good, Grade::Bad]);
        all[1].what = "a\u{1b}[31m b".into();
        let text = text_report(DoctorStatus::of(&all), &all, Verbosity::Normal);
        assert_eq!(
            text.as_str(),
            "files\n  ✓ file: what\n      do it\n  ✗ file: a\\x1b[31m b\n      do it\n\
             1 bad; nothing was changed\n"
        );
        let text = text_report(DoctorStatus::of(&all), &all, Verbosity::Quiet);
        let text = text.as_str();
        assert!(text.starts_with("files\n  ✗ file") && !text.contains('✓'), "{text}");
    }

    #[test]
    fn json_has_the_published_keys() {
        let all = seen(&[Grade::Attention]);
        let json: serde_json::Value =
            serde_json::from_str(&json_report(DoctorStatus::of(&all), &all)).unwrap();
        assert_eq!(json["status"], "attention");
        let finding = json!({"group": "files", "name": "file", "status": "attention", "what": "what", "remedy": "do it"});
        assert_eq!(json["findings"], json!([finding]));
    }
}
