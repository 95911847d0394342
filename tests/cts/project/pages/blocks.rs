//! Every `sh` block of the pages is run, or says above itself why it is not. CONTRIBUTING.md,
//! "Pages", lists the comments.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{Block, Page, pages};
use crate::support::harness::{Done, Machine};

/// The address in the pages, in whose place the service under test listens.
const SHOWN: &str = "127.0.0.1:3000";
/// The comment above blocks that `packages/moving_to_postgresql.rs` runs.
pub const TYPED_IN_ORDER: &str =
    "run in order with a PostgreSQL server, in a container with: service";

/// Where a block runs.
#[derive(Debug, PartialEq)]
enum Place {
    /// In an empty directory beside a running service.
    Here,
    /// In a booted container with these things.
    Container(Vec<String>),
    /// With a database on a PostgreSQL server.
    Postgres,
    /// In a booted container, all of the page one after the other (`packages/moving_to_postgresql.rs`).
    InOrder,
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// The place, and the exit codes that are no failure.
fn place(page: &Page, block: &Block) -> (Place, Vec<i32>) {
    let Some(comment) = block.comment.as_deref() else { return (Place::Here, vec![0]) };
    let (comment, codes) = match comment.split_once("; exit code ") {
        Some((comment, codes)) => {
            (comment, codes.split(" or ").map(|code| code.parse().unwrap()).collect())
        }
        None => (comment, vec![0]),
    };
    let place = if let Some(reason) = comment.strip_prefix("not run by the tests: ") {
        assert!(reason.len() > 20, "{}:{}: {reason:?} is no reason", page.name, block.line);
        Place::Nowhere(reason.into())
    } else if let Some(things) = comment.strip_prefix("run in a container with: ") {
        Place::Container(things.split(", ").map(str::to_string).collect())
    } else if comment == "run with a PostgreSQL server" {
        Place::Postgres
    } else if comment == TYPED_IN_ORDER {
        Place::InOrder
    } else {
        panic!("{}:{}: {comment:?} says nothing to the tests", page.name, block.line);
    };
    (place, codes)
}

/// The shell blocks of all pages, each with its page.
fn shell_blocks() -> Vec<(Page, Vec<Block>)> {
    let shell = |page: Page| {
        let mut blocks = page.blocks();
        for block in &blocks {
            let is_known =
                ["sh", "sql", "json", "text", "python", "js", "rust", "dockerfile", "yaml"]
                    .contains(&&*block.language);
            assert!(is_known, "{}:{}: a block of {:?}", page.name, block.line, block.language);
        }
        blocks.retain(|block| block.language == "sh");
        (page, blocks)
    };
    pages().into_iter().map(shell).collect()
}

/// Runs a script in a directory, with `cts` on the path.
fn run(machine: &Machine, script: &str) -> Done {
    let programs = machine.path("bin");
    if !programs.exists() {
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_cts"), programs.join("cts")).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .env_clear()
        .envs([("PATH", &*path), ("LC_ALL", "C.UTF-8")])
        .env("HOME", machine.path("."))
        .env("SQLITE_DB_PATH", machine.db())
        .current_dir(machine.path("."));
    Done(command.output().unwrap())
}

fn expect(page: &Page, block: &Block, codes: &[i32], done: &Done) {
    let code = done.0.status.code().unwrap_or(-1);
    assert!(
        codes.contains(&code),
        "{}:{}: exit code {code}\n{}\n{}{}",
        page.name,
        block.line,
        block.text,
        done.out(),
        done.err()
    );
}

#[test]
fn every_shell_block_is_run_or_says_why_not() {
    let (mut here, mut elsewhere, mut nowhere) = (0, 0, 0);
    for (page, blocks) in shell_blocks() {
        for block in blocks {
            match place(&page, &block).0 {
                Place::Here => here += 1,
                Place::Container(_) | Place::Postgres | Place::InOrder => elsewhere += 1,
                Place::Nowhere(_) => nowhere += 1,
            }
        }
    }
    assert!(here > 5 && elsewhere > 5, "{here} here, {elsewhere} elsewhere, {nowhere} nowhere");
}

#[test]
fn shell_blocks_without_a_comment_run() {
    for (page, blocks) in shell_blocks() {
        for block in blocks {
            let (Place::Here, codes) = place(&page, &block) else { continue };
            let machine = Machine::migrated();
            let service = machine.serve().start();
            let address = service.until_ready().address().to_string();
            let done = run(&machine, &block.text.replace(SHOWN, &address));
            expect(&page, &block, &codes, &done);
            assert_eq!(service.stop().0, Some(0));
        }
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_shell_blocks_run_on_a_server() {
    use crate::support::cluster::Cluster;
    let mut count = 0;
    for (page, blocks) in shell_blocks() {
        for block in blocks {
            let (Place::Postgres, codes) = place(&page, &block) else { continue };
            let (before, rest) = block.text.split_once("DATABASE_URL='").unwrap();
            let (_, after) = rest.split_once('\'').unwrap();
            let database = Cluster::shared().owned();
            let script = format!("{before}DATABASE_URL=$GIVEN{after}");
            let script = format!("GIVEN='{}'\n{script}", database.url());
            expect(&page, &block, &codes, &run(&Machine::new(), &script));
            count += 1;
        }
    }
    assert!(count > 0);
}

mod container {
    use super::*;
    use crate::packages::install as packages;
    use crate::support::container::{Container, ContainerPlan};
    use crate::support::project::source;

    /// A container with what the comment names.
    fn boot(things: &[String]) -> Option<Container> {
        let machine = packages::machine()?;
        for thing in things {
            match thing.split_once(' ').unwrap_or((thing, "")) {
                ("packages", "") => drop(machine.ok("cp /mnt/* /root")),
                ("service", "") => drop(machine.ok("dpkg -i /mnt/cts_*.deb")),
                ("user", name) => drop(machine.ok(&format!("useradd {name}"))),
                other => panic!("{other:?} cannot be in a container"),
            }
        }
        Some(machine)
    }

    /// A container with the project's own files and the binary where cargo builds it.
    fn boot_to_build() -> Option<Container> {
        let plan = ContainerPlan::bare()
            .with(env!("CARGO_BIN_EXE_cts").into(), "/mnt/target/release/cts")
            .with(source("systemd"), "/mnt/systemd");
        plan.boot()
    }

    #[test]
    #[ignore = "sweep"]
    fn shell_blocks_for_a_container_run_in_one() {
        for (page, blocks) in shell_blocks() {
            for block in blocks {
                let (Place::Container(things), codes) = place(&page, &block) else { continue };
                let is_build = things == ["build"];
                let machine = if is_build { boot_to_build() } else { boot(&things) };
                let Some(machine) = machine else { return };
                let folder = if is_build { "/mnt" } else { "/root" };
                let done = machine.sh(&format!("cd {folder}\n{}", block.text));
                expect(&page, &block, &codes, &done);
            }
        }
    }
}
