//! Which engine answers, by the text of `version()`. Several engines speak the protocol of PostgreSQL and say a
//! `server_version` that is new enough, and lack what cts relies on; they are refused by name before anything is
//! changed. An engine that is not listed here, such as a distribution of PostgreSQL, is used.

use crate::error::{Error, Kind, Result};

/// Characters of `version()` that an error shows.
const SHOWN_CHARS: usize = 250;

/// An engine that speaks the protocol of PostgreSQL and that cts cannot work with.
struct RefusedEngine {
    name: &'static str,
    /// Parts of its `version()`, each of which tells it from PostgreSQL.
    marks: &'static [&'static str],
    /// What it lacks.
    reason: &'static str,
}

/// The engines that are refused, by what their documentation and sources say of `version()` and of what they lack.
const REFUSED: [RefusedEngine; 13] = [
    RefusedEngine {
        name: "CockroachDB",
        marks: &["CockroachDB"],
        reason: "its advisory locks lock nothing, so that two migrations could run at once, and its rows have no xmin, by which a changed schema is noticed",
    },
    RefusedEngine {
        name: "YugabyteDB",
        marks: &["-YB-"],
        reason: "its rows have no xmin, by which a changed schema is noticed, and it locks otherwise when the schema is changed",
    },
    RefusedEngine {
        name: "Amazon Redshift",
        marks: &["Redshift"],
        reason: "it has no indexes and does not enforce unique and foreign keys",
    },
    RefusedEngine {
        name: "Cloud Spanner",
        marks: &["Spanner"],
        reason: "its statements that change the schema are not part of a transaction, and it has no advisory locks",
    },
    RefusedEngine {
        name: "Materialize",
        marks: &["Materialize", "materialize"],
        reason: "it has no unique and foreign keys and no advisory locks",
    },
    RefusedEngine {
        name: "RisingWave",
        marks: &["RisingWave"],
        reason: "it has no transactions that write, no foreign keys and no advisory locks",
    },
    RefusedEngine {
        name: "QuestDB",
        marks: &["QuestDB"],
        reason: "it has no transactions, no unique and foreign keys and no advisory locks",
    },
    RefusedEngine {
        name: "CrateDB",
        marks: &["CrateDB"],
        reason: "it has no transactions, no foreign keys and no advisory locks",
    },
    RefusedEngine {
        name: "CedarDB",
        marks: &["CedarDB"],
        reason: "it has a storage and a system catalogue of its own, with which cts was not tried",
    },
    RefusedEngine {
        name: "Greenplum",
        marks: &["Greenplum"],
        reason: "each unique key of a table must contain the columns by which its rows are distributed, which those of CTS do not, and it does not enforce foreign keys",
    },
    RefusedEngine {
        name: "Apache Cloudberry",
        marks: &["Cloudberry"],
        reason: "each unique key of a table must contain the columns by which its rows are distributed, which those of CTS do not, and it does not enforce foreign keys",
    },
    RefusedEngine {
        name: "openGauss",
        marks: &["openGauss"],
        reason: "it was split off from PostgreSQL 9.2 and has the system catalogue of that version",
    },
    RefusedEngine {
        name: "GaussDB",
        marks: &["GaussDB", "gaussdb"],
        reason: "it was split off from PostgreSQL 9.2 and has the system catalogue of that version",
    },
];

/// Refuses an engine that is not PostgreSQL, by its `version()`.
///
/// # Errors
/// [`Kind::Config`] for an engine that cts cannot work with. Nothing was changed.
pub fn require_postgresql(version: &str) -> Result<()> {
    let is_named = |engine: &&RefusedEngine| engine.marks.iter().any(|mark| version.contains(mark));
    let refused = |name: &str, reason: &str| {
        let version: String = version.chars().take(SHOWN_CHARS).collect();
        let what = format!(
            "the server is {name} and not PostgreSQL, though it speaks its protocol: {reason} (version() is '{version}')"
        );
        Err(Error::new(Kind::Config, what).remedy("use PostgreSQL 13 or later"))
    };
    match REFUSED.iter().find(is_named) {
        Some(engine) => refused(engine.name, engine.reason),
        None if is_bare(version) => refused(
            "another engine, such as Aurora DSQL or PGAdapter",
            "PostgreSQL also names the platform and the compiler that it was built with",
        ),
        None => Ok(()),
    }
}

/// Whether it is a number and nothing else, as Aurora DSQL (`PostgreSQL 16`) and PGAdapter (`PostgreSQL 14.1`) answer.
fn is_bare(version: &str) -> bool {
    version.strip_prefix("PostgreSQL ").is_some_and(|number| {
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each answers, as its documentation or sources have it, and the name by which it is refused.
    const REFUSED_VERSIONS: [(&str, &str); 21] = [
        (
            "CockroachDB CCL v25.4.14 (x86_64-pc-linux-gnu, built 2026/03/27 01:53:43, go1.25.5)",
            "CockroachDB",
        ),
        (
            "CockroachDB OSS v20.1.0 (x86_64-unknown-linux-gnu, built 2020/05/05 00:07:18, go1.13.9)",
            "CockroachDB",
        ),
        (
            "PostgreSQL 11.2-YB-2.20.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 16.0.6 (https://github.com/yugabyte/llvm-project.git 1e6329f40e5c531c09ade7015278078682293ebd), 64-bit",
            "YugabyteDB",
        ),
        (
            "PostgreSQL 15.12-YB-2025.1.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit",
            "YugabyteDB",
        ),
        (
            "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.77467",
            "Amazon Redshift",
        ),
        ("PostgreSQL 16", "Aurora DSQL"),
        ("PostgreSQL 14.1", "PGAdapter"),
        ("Cloud Spanner PostgreSQL interface", "Cloud Spanner"),
        ("PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize v0.110.1)", "Materialize"),
        ("PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (materialized v0.26.0)", "Materialize"),
        (
            "PostgreSQL 13.14.0-RisingWave-2.3.2 (58c5893670f326f0922b9bc58c61c83cabeccaa8)",
            "RisingWave",
        ),
        ("PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB", "QuestDB"),
        (
            "CrateDB 5.2.3 (built b1a9c9f/2023-02-27T09:11:29Z, Linux 5.15.0 amd64, OpenJDK 64-Bit Server VM 19.0.2+7)",
            "CrateDB",
        ),
        ("PostgreSQL 16.3 compatible CedarDB v2025-08-20", "CedarDB"),
        (
            "PostgreSQL 9.4.26 (Greenplum Database 6.25.3 build commit:367edc6b4dfd909fe38fc288ade9e294d74e3f9a Open Source) on x86_64-unknown-linux-gnu, compiled by gcc (Ubuntu 7.5.0-3ubuntu1~18.04) 7.5.0, 64-bit compiled on Oct  4 2023 23:27:38",
            "Greenplum",
        ),
        (
            "PostgreSQL 14.4 (Apache Cloudberry 2.0.0-incubating build 1) on aarch64-unknown-linux-gnu, compiled by gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-11), 64-bit",
            "Apache Cloudberry",
        ),
        (
            "PostgreSQL 14.4 (Cloudberry Database 1.5.4 build 1) on x86_64-pc-linux-gnu, compiled by gcc (GCC) 10.2.1, 64-bit",
            "Apache Cloudberry",
        ),
        (
            "PostgreSQL 9.2.4 (openGauss 2.0.0 build 78689da9) compiled at 2021-03-31 21:04:03 commit 0 last mr   on x86_64-unknown-linux-gnu, compiled by g++ (GCC) 7.3.0, 64-bit",
            "openGauss",
        ),
        (
            "(openGauss 5.0.1 build 33b035fd) compiled at 2023-12-15 20:28:19 commit 0 last mr   on x86_64-unknown-linux-gnu, compiled by g++ (GCC) 10.3.0, 64-bit",
            "openGauss",
        ),
        (
            "gaussdb (GaussDB Kernel 507.0.0 build fab4f5ea) compiled at 2024-10-24 11:58:09 commit 3086 last mr 6592 release",
            "GaussDB",
        ),
        (
            "(GaussDB Kernel V500R002C00 build fab4f5ea) compiled at 2021-10-24 11:58:09 commit 3086 last mr 6592 release",
            "GaussDB",
        ),
    ];

    /// PostgreSQL of distributions, of managed services and of vendors.
    const ACCEPTED_VERSIONS: [&str; 14] = [
        "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) 12.2.0, 64-bit",
        "PostgreSQL 13.23 on x86_64-pc-linux-gnu, compiled by gcc (GCC) 8.3.1 20191121 (Red Hat 8.3.1-5), 64-bit",
        "PostgreSQL 19devel on x86_64-linux, compiled by gcc-14.2.0, 64-bit",
        "PostgreSQL 13.1, compiled by Visual C++ build 1914, 64-bit",
        // Amazon RDS and Aurora, Cloud SQL and AlloyDB, Azure.
        "PostgreSQL 16.8 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit",
        "PostgreSQL 15.5 on x86_64-pc-linux-gnu, compiled by Debian clang version 12.0.1, 64-bit",
        "PostgreSQL 16.4 on x86_64-pc-linux-gnu, compiled by gcc (GCC) 12.2.0, 64-bit",
        // Neon.
        "PostgreSQL 17.2 (a8dd6e7) on aarch64-unknown-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit",
        "PostgreSQL 17.4 (EnterpriseDB Advanced Server 17.4.0) on x86_64-pc-linux-gnu, compiled by gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5), 64-bit",
        "PostgreSQL 18.4 (pgEdge 5.0.10) on x86_64-pc-linux-gnu, compiled by gcc (GCC) 14.3.1 20251022 (Red Hat 14.3.1-4), 64-bit",
        "PostgreSQL 15.4 - Percona Distribution on x86_64-pc-linux-gnu, compiled by gcc (GCC) 11.4.1, 64-bit",
        "PostgreSQL 16.13 (PolarDB 16.13.16.4 build 005e8a0c) on x86_64-linux-gnu",
        "PostgresPro 15.1.1 on x86_64-pc-linux-gnu, compiled by gcc (Debian 10.2.1-6) 10.2.1 20210110, 64-bit",
        "PostgreSQL 18.6 (PGlite 0.5.14) on wasm32-unknown-emscripten, compiled by emcc (Emscripten gcc/clang-like replacement + linker emulating GNU ld) 6.0.5 (1db513782be24469589d7cb8a1f1834e9a33f271), 32-bit",
    ];

    #[test]
    fn an_engine_that_is_not_postgresql_is_refused_by_name_with_the_reason() {
        for (version, name) in REFUSED_VERSIONS {
            let error = require_postgresql(version).unwrap_err();
            assert_eq!(error.kind, Kind::Config);
            let what = error.message();
            assert!(what.contains(name) && what.contains(version), "{version}: {what}");
        }
        let named =
            |engine: &&RefusedEngine| REFUSED_VERSIONS.iter().any(|(_, name)| *name == engine.name);
        assert_eq!(REFUSED.iter().filter(named).count(), REFUSED.len());
    }

    #[test]
    fn distributions_of_postgresql_and_unknown_engines_are_used() {
        for version in ACCEPTED_VERSIONS {
            assert!(require_postgresql(version).is_ok(), "{version}");
        }
        for version in ["", "PostgreSQL", "PostgreSQL ", "Unheard of 1.0"] {
            assert!(require_postgresql(version).is_ok(), "{version}");
        }
    }
}
