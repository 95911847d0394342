//! The result of a copy, or of its dry run, as text and as JSON.

use serde_json::{Value as Json, json};

use super::plan::CopyPlan;
use super::problems::{Problem, Problems};
use super::survey::Survey;
use super::transfer::CopyReport;
use crate::error::{Error, Kind, StateLeft};
use crate::store::TableDigest;
use crate::store::{Backend, DatabaseIdentity};
use crate::system::visible::Lines;

/// Digits of a digest that the table shows.
const SHOWN_DIGITS: usize = 16;
/// How many problems an error names.
const NAMED_PROBLEMS: usize = 10;

/// A copy that was made, or would be.
pub struct CopyResult<'r> {
    /// Whether it is only said what a copy would do.
    pub dry_run: bool,
    /// The database that is read.
    pub source: DatabaseIdentity,
    /// The database that is written.
    pub target: DatabaseIdentity,
    /// What is copied.
    pub plan: &'r CopyPlan,
    /// What the source holds.
    pub surveyed: &'r Survey,
    /// What the target holds; `None` where nothing was copied.
    pub report: Option<&'r CopyReport>,
}

/// A line for each table, and what there is to say of the copy as a whole.
pub fn report_text(result: &CopyResult<'_>) -> Lines {
    let mut lines = Lines::new();
    let CopyResult { surveyed, report, .. } = result;
    let width = surveyed.tables.iter().map(|table| table.table.name.len()).max();
    let width = width.unwrap_or_default();
    for surveyed in &surveyed.tables {
        let digest = surveyed.digest.to_string();
        let digest = digest.get(..SHOWN_DIGITS).unwrap_or_default();
        let (name, rows) = (&surveyed.table.name, surveyed.digest.rows);
        let equal = if report.is_some() { "  equal" } else { "" };
        lines.add(format_args!("{name:width$}  {rows:>10} rows  {digest}{equal}"));
    }
    let (tables, rows) = (surveyed.tables.len(), surveyed.rows());
    match report {
        Some(_) => lines.add(format_args!("{tables} tables, {rows} rows: equal on both sides")),
        None => lines.add(format_args!(
            "{tables} tables, {rows} rows would be copied to {}",
            result.target.location
        )),
    }
    for problem in surveyed.problems.iter() {
        let left_out = if report.is_some() { "left out" } else { "cannot be copied" };
        lines.add(format_args!("{left_out}: {}", problem_text(problem)));
    }
    for object in &result.plan.left_out {
        lines.add(format_args!("left out: {object}"));
    }
    if !result.plan.left_out.is_empty() {
        lines.add(
            "Your own columns and tables are copied with --with-extra; your own indexes are not.",
        );
    }
    for exception in report.iter().flat_map(|report| &report.exceptions) {
        lines.add(format_args!("constraint exception: {exception}"));
    }
    lines
}

/// `table users, column created_at: 3 rows: is not a time (id 7: 'yesterday'; …)`
fn problem_text(problem: &Problem) -> String {
    let Problem { table, column, reason, rows, examples } = problem;
    let column = column.as_ref().map(|name| format!(", column {name}")).unwrap_or_default();
    let named = examples.iter().map(|example| match example.value.is_empty() {
        true => format!("id {}", example.key),
        false => format!("id {}: {}", example.key, example.value),
    });
    let more = if *rows > examples.len() as u64 { "; …" } else { "" };
    let count = if *rows == 1 { "1 row".into() } else { format!("{rows} rows") };
    let named = named.collect::<Vec<_>>().join("; ");
    format!("table {table}{column}: {count}: {reason} ({named}{more})")
}

/// The error of a source with rows that cannot be copied. It names them, unless they are listed above.
pub fn problems_error(problems: &Problems, is_listed: bool) -> Error {
    let named: Vec<String> = problems.iter().take(NAMED_PROBLEMS).map(problem_text).collect();
    let more = if problems.iter().count() > named.len() { "; …" } else { "" };
    let rows = match problems.rows {
        1 => "1 row has a value".into(),
        rows => format!("{rows} rows have values"),
    };
    let what = match is_listed {
        true => format!("{rows} that the target cannot keep"),
        false => format!("{rows} that the target cannot keep: {}{more}", named.join("; ")),
    };
    Error::new(Kind::Data, what).leaving(StateLeft::Unchanged).remedy(
        "correct them in the source (`cts copy … --dry-run` lists all), or leave those rows out, into a file: --skip-bad FILE",
    )
}

/// The same as JSON.
pub fn report_json(result: &CopyResult<'_>) -> String {
    let CopyResult { dry_run, source, target, plan, surveyed, report } = result;
    let copies = report.iter().flat_map(|report| report.copies.iter().map(Some));
    let copies = copies.chain(std::iter::repeat(None));
    let tables = surveyed.tables.iter().zip(copies).map(|(surveyed, copy)| {
        json!({
            "table": surveyed.table.name,
            "source": digest_json(&surveyed.digest),
            "target": copy.map(digest_json),
            // What is not equal is not committed, and an error.
            "equal": copy.map(|_| true),
        })
    });
    let exceptions = report.iter().flat_map(|report| &report.exceptions).map(ToString::to_string);
    let problems = &surveyed.problems;
    json!({
        "dryRun": dry_run,
        "source": database_json(source),
        "target": database_json(target),
        "tables": tables.collect::<Vec<_>>(),
        "rows": surveyed.rows(),
        "equal": report.map(|_| true),
        "skipped": {
            "rows": problems.rows,
            "problems": problems.iter().map(problem_json).collect::<Vec<_>>(),
        },
        "leftOut": plan.left_out,
        "constraintExceptions": exceptions.collect::<Vec<_>>(),
    })
    .to_string()
}

fn digest_json(digest: &TableDigest) -> Json {
    json!({ "rows": digest.rows, "digest": digest.to_string() })
}

fn database_json(identity: &DatabaseIdentity) -> Json {
    let backend: Backend = identity.backend;
    json!({ "type": backend.name(), "location": identity.location })
}

fn problem_json(problem: &Problem) -> Json {
    let Problem { table, column, reason, rows, examples } = problem;
    let examples =
        examples.iter().map(|example| json!({ "id": example.key, "value": example.value }));
    json!({
        "table": table,
        "column": column,
        "reason": reason.to_string(),
        "rows": rows,
        "examples": examples.collect::<Vec<_>>(),
    })
}
