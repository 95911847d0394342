//! Errors are values: the code decides by their kind, cause and state, and reads no sentence.

use super::code::{SourceFile, source_files};

/// How the text of an error would be read.
const READS: [&str; 3] = [".what", ".message()", ".to_string()"];
/// And what would be done with it.
const DECISIONS: [&str; 9] = [
    ".contains(",
    ".starts_with(",
    ".ends_with(",
    ".strip_prefix(",
    ".strip_suffix(",
    ".split_once(",
    ".find(",
    "==format!(",
    "!=format!(",
];
/// Here texts of the server and of its crates are read, since they give nothing better; it says why.
const FOREIGN_TEXT: &str = "src/store/postgres/error.rs";

/// The places where a file decides by the text of an error.
fn decisions_by_text(file: &SourceFile) -> Vec<String> {
    let code: String = file.without_tests().code.split_whitespace().collect();
    let mut patterns = READS.iter().flat_map(|read| DECISIONS.map(|made| format!("{read}{made}")));
    let first = patterns.find(|pattern| code.contains(pattern.as_str()));
    first.map(|pattern| format!("{}: {pattern}", file.path)).into_iter().collect()
}

#[test]
fn no_code_decides_by_the_text_of_an_error() {
    let files = source_files(&["src/"]);
    let read: Vec<String> = files
        .into_iter()
        .filter(|file| file.path != FOREIGN_TEXT)
        .flat_map(decisions_by_text)
        .collect();
    assert!(read.is_empty(), "{read:#?}");
}

#[test]
fn a_decision_by_text_is_found_on_one_line_and_on_several() {
    for code in [
        "if error.what.contains(needle) {}",
        "let full = error\n    .message()\n    .starts_with(needle);",
        "objects.any(|o| o.to_string() == format!(pattern))",
    ] {
        let file = SourceFile::new("src/x.rs", code);
        assert_eq!(decisions_by_text(&file).len(), 1, "{code}");
    }
    for code in ["error.kind == Kind::Data", "// error.what.contains(needle)", "names.contains(x)"]
    {
        let file = SourceFile::new("src/x.rs", code);
        assert!(decisions_by_text(&file).is_empty(), "{code}");
    }
}

#[test]
fn a_thread_of_the_service_logs_no_fault_by_itself() {
    // Faults go to `health::Conditions`, which logs them. What remains are the change of the status, a rendering
    // of the report, and objects that were put back.
    for file in source_files(&["src/service/"]) {
        let code: String = file.without_tests().code.split_whitespace().collect();
        assert!(!code.contains("log.error("), "{}", file.path);
        let warnings = code.matches("log.warn(").count();
        let allowed = if file.path == "src/service/database_thread.rs" { 2 } else { 0 };
        assert_eq!(warnings, allowed, "{}", file.path);
    }
}
