//! Prints the schema reference: `cargo run --example schema_reference > docs/schema.md`. The build makes it
//! from the comments in `schema/`, see `cts_schema::reference`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

include!(concat!(env!("OUT_DIR"), "/schema_reference.rs"));

fn main() -> ExitCode {
    match PAGE {
        Ok(page) => {
            print!("{page}");
            ExitCode::SUCCESS
        }
        Err(defects) => {
            eprintln!("{defects}");
            ExitCode::FAILURE
        }
    }
}
