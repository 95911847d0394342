//! Writes the documents of a release that are made from its source into a directory: the man page and the shell
//! completions from the definition of the command line, Debian's changelog from CHANGELOG.md, and the file of copyrights
//! and licences. Run it in the folder of the source:
//!   cargo run --package cts-release --bin pages -- DIRECTORY [VERSION [SECONDS]]
//! SECONDS is the time of what CHANGELOG.md has not released yet, since 1970 (`SOURCE_DATE_EPOCH` without it). The maintainer
//! is that of Cargo.toml, or `DEBFULLNAME` and `DEBEMAIL`, as Debian's own tools have it.

#![allow(dead_code, reason = "only the definition of the command line is used")]

mod changelog;
#[path = "../src/cli/definition.rs"]
mod cli;
#[path = "../src/config/defaults.rs"]
mod config;
mod copyright;
mod crates;
mod manual;

/// What the definition of the command line takes from the program that it is of.
mod system {
    pub(crate) mod version {
        pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
        /// No page has the lines about the build.
        pub(crate) const LONG_VERSION: &str = VERSION;
    }
}

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or("target/pages".into()));
    let version = arguments.next().unwrap_or(env!("CARGO_PKG_VERSION").into());
    let seconds = arguments.next().or(std::env::var("SOURCE_DATE_EPOCH").ok());
    let seconds = seconds.unwrap_or_default().parse().unwrap_or_default();
    fs::create_dir_all(&folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut cli::definition(), "cts", &folder)?;
    }
    let mut page = Vec::new();
    let man = Man::new(cli::definition()).title("CTS").manual("CTS").date(manual::DATE);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    manual::synopsis(&mut page)?;
    manual::description(&mut page)?;
    man.render_options_section(&mut page)?;
    commands(&mut page)?;
    manual::write(&mut page)?;
    fs::write(folder.join("cts.1"), page)?;

    let maintainer = maintainer()?;
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let entry = changelog::Entry { version: &version, time, maintainer: &maintainer };
    let changes = changelog::debian(&fs::read_to_string("CHANGELOG.md")?, &entry)?;
    fs::write(folder.join("changelog"), changes)?;
    fs::write(folder.join("copyright"), copyright::file(&maintainer)?)
}

/// Name and address of the maintainer of the package.
fn maintainer() -> io::Result<String> {
    let manifest = fs::read_to_string("Cargo.toml")?;
    let field =
        manifest.lines().find_map(|line| line.strip_prefix("maintainer = \"")?.strip_suffix('"'));
    let field = field.ok_or_else(|| io::Error::other("Cargo.toml names no maintainer"))?;
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(address) = set("DEBEMAIL") else { return Ok(field.into()) };
    let name = set("DEBFULLNAME").or(field.split_once(" <").map(|(name, _)| name.into()));
    Ok(format!("{} <{address}>", name.unwrap_or_default()))
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
