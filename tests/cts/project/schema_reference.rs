//! The schema reference, docs/schema.md, is made from the comments in `schema/` and is current.

use std::fs;
use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/schema_reference.rs"));

#[test]
fn every_table_column_and_index_has_a_comment_of_the_agreed_form() {
    assert!(PAGE.is_ok(), "comments in schema/:\n{}", PAGE.unwrap_err());
}

#[test]
fn the_schema_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema.md");
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == PAGE.unwrap(),
        "docs/schema.md is not current: run `cargo run --example schema_reference > docs/schema.md`"
    );
}
