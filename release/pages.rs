//! Writes the man page and the shell completions into a directory, from the definition of the
//! command line: `cargo run --example pages -- DIRECTORY`.

#![allow(dead_code, reason = "only the definition of the command line is used")]

#[path = "../src/cli/definition.rs"]
mod cli;
#[path = "../src/config/defaults.rs"]
mod config;
mod manual;
#[path = "../src/system/version.rs"]
mod version;

mod system {
    pub(crate) use crate::version;
}

use std::fs;
use std::io;
use std::path::PathBuf;

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or("target/pages".into()));
    fs::create_dir_all(&folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut cli::definition(), "cts", &folder)?;
    }
    let mut page = Vec::new();
    let man = Man::new(cli::definition()).title("CTS").manual("CTS").date(manual::DATE);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    manual::description(&mut page)?;
    man.render_options_section(&mut page)?;
    commands(&mut page)?;
    manual::write(&mut page)?;
    fs::write(folder.join("cts.1"), page)
}

/// The commands with their own options, since there is one page for all of them.
fn commands(page: &mut Vec<u8>) -> io::Result<()> {
    let mut text = roff::Roff::new();
    text.control("SH", ["COMMANDS"]);
    for command in cli::definition().get_subcommands() {
        text.control("TP", []);
        text.text([roff::bold(command.get_name())]);
        text.text([roff::roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
        for option in command.get_arguments().filter(|option| !option.is_global_set()) {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            text.control("br", []);
            text.text([roff::bold(name(option)), roff::roman(format!("  {help}"))]);
        }
    }
    text.to_writer(page)
}

/// A flag as it is typed, and another argument as the help names it.
fn name(argument: &clap::Arg) -> String {
    let long = argument.get_long().map(|long| format!("--{long}"));
    long.unwrap_or_else(|| argument.get_id().to_string())
}
