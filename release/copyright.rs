//! The file `copyright` of the packages: who owns what the binaries contain, and under which licence, in Debian's
//! machine-readable form (DEP-5). The libraries that are linked in are those of Cargo.lock; their notices and the
//! texts of their licences are read from their sources, so that the same lock file gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io;

use crate::crates::{Crate, SQLITE_CRATE, linked};

/// The licences that are known here, by name, and how their texts begin. Where a library may be had under several, the
/// first of them is chosen.
const LICENCES: [(&str, &str); 6] = [
    (
        "MIT",
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this software",
    ),
    ("ISC", "Permission to use, copy, modify, and/or distribute this software for any"),
    ("BSD-3-Clause", "Redistribution and use in source and binary forms, with or without"),
    ("BSD-2-Clause", "Redistribution and use in source and binary forms, with or without"),
    (
        "Unicode-3.0",
        "Permission is hereby granted, free of charge, to any person obtaining a copy of data files",
    ),
    (APACHE, "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"),
];
const APACHE: &str = "Apache-2.0";

/// The sentence that BSD-3-Clause has and BSD-2-Clause has not.
const NO_ENDORSEMENT: &str = "Neither the name";

/// Sources in another language that a library has taken in: the library, their folder, the file with their licence,
/// and its name. SQLite is in the public domain, which is no licence.
const TAKEN_IN: [(&str, &str, &str, &str); 3] = [
    ("ring", "crypto", "crypto/internal.h", APACHE),
    ("ring", "third_party/fiat", "third_party/fiat/LICENSE", APACHE),
    ("zstd-sys", "zstd", "zstd/LICENSE", "BSD-3-Clause"),
];

const HEADER: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: cts
Upstream-Contact: ";

const COMMENT: &str = "
Comment:
 The binary contains the libraries below. Paths under vendor/ are those that
 `cargo vendor --versioned-dirs` gives to their sources, rust/ is the source of
 the Rust compiler, and glibc/ that of the GNU C library, which only the static
 binary of the archive contains. Where a library may be had under several
 licences, the one that is named here was chosen.

Files: *
Copyright: 2026 the cts authors
License: MIT
";

const OTHERS: &str = "
Files: rust/library/*
Copyright: The Rust Project Developers
License: MIT

Files: glibc/*
Copyright: 1991-2022 Free Software Foundation, Inc.
License: LGPL-2.1+
";

const SQLITE: &str = "\
Copyright: none; its authors have dedicated it to the public domain
License: public-domain
 The author disclaims copyright to this source code. In place of a legal
 notice, here is a blessing:
 .
 May you do good and not evil.
 May you find forgiveness for yourself and forgive others.
 May you share freely, never taking more than you give.
";

const COMMON: &str = "
License: Apache-2.0
 Licensed under the Apache License, Version 2.0. On Debian its text is
 /usr/share/common-licenses/Apache-2.0; the archive has it as
 licenses/Apache-2.0.

License: LGPL-2.1+
 Free software; you can redistribute it and/or modify it under the terms of the
 GNU Lesser General Public License as published by the Free Software Foundation,
 version 2.1 or (at your option) any later version. On Debian its text is
 /usr/share/common-licenses/LGPL-2.1; the archive has it as licenses/LGPL-2.1.
 The source of cts builds the static binary with any version of the library.
";

/// Writes the file.
///
/// # Errors
///
/// `cargo metadata` fails, a file cannot be read, or a library is under a licence that is not known here.
pub fn file(maintainer: &str) -> io::Result<String> {
    let mut texts = Texts::default();
    texts.add("cts", "MIT", &fs::read_to_string("LICENSE")?);
    let mut file = format!("{HEADER}{maintainer}{COMMENT}");
    for library in linked()? {
        file.push_str(&library_paragraph(&library, &mut texts)?);
        file.push_str(&taken_in_paragraphs(&library, &mut texts)?);
    }
    file.push_str(OTHERS);
    for (name, text) in &texts.0 {
        let _ = write!(file, "\nLicense: {name}\n{}", indented(text));
    }
    Ok(file + COMMON)
}

fn library_paragraph(library: &Crate, texts: &mut Texts) -> io::Result<String> {
    let files = library.licence_files()?;
    let mut notices = BTreeSet::new();
    let mut names = Vec::new();
    for licence in chosen(library)? {
        let text = files.iter().find(|text| body(text, licence).is_some());
        notices.extend(text.into_iter().flat_map(|text| notices_in(text)));
        names.push(text.map_or(licence.into(), |text| texts.add(&library.name, licence, text)));
    }
    let holders = if notices.is_empty() { library.authors() } else { joined(&notices) };
    Ok(paragraph(&library.vendored(), &holders, &names.join(" and ")))
}

fn taken_in_paragraphs(library: &Crate, texts: &mut Texts) -> io::Result<String> {
    let mut text = String::new();
    if library.name == SQLITE_CRATE {
        let _ = write!(text, "\nFiles: {}/sqlite3/*\n{SQLITE}", library.vendored());
    }
    for (_, folder, file, licence) in TAKEN_IN.into_iter().filter(|taken| taken.0 == library.name) {
        let licence_text = fs::read_to_string(library.folder.join(file))?;
        let name = texts.add(&format!("{}-{folder}", library.name), licence, &licence_text);
        let holders = joined(&notices_in(&licence_text).collect());
        text.push_str(&paragraph(&format!("{}/{folder}", library.vendored()), &holders, &name));
    }
    Ok(text)
}

fn paragraph(folder: &str, holders: &str, licence: &str) -> String {
    format!("\nFiles: {folder}/*\nCopyright: {holders}\nLicense: {licence}\n")
}

/// The licences under which a library is used: each that it is under at once, and one of those to choose from.
fn chosen(library: &Crate) -> io::Result<Vec<&'static str>> {
    let choose = |part: &str| {
        let part = part.trim_matches(['(', ')']).replace('/', " OR ");
        let is_offered = |name: &&str| part.split(" OR ").any(|offered| offered.trim() == *name);
        LICENCES.into_iter().map(|(name, _)| name).find(is_offered).ok_or_else(|| {
            let vendored = library.vendored();
            io::Error::other(format!(
                "{vendored} is under \"{part}\", a licence that release/copyright.rs does not know"
            ))
        })
    };
    library.licence.split(" AND ").map(choose).collect()
}

/// The texts of licences by their names. A text that differs from that of the same name has a name of its own.
#[derive(Default)]
struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Adds the licence that a file contains, and returns the name that refers to it.
    fn add(&mut self, of: &str, licence: &str, file: &str) -> String {
        let Some(text) = body(file, licence).filter(|_| licence != APACHE) else {
            return licence.into();
        };
        let is_same = |known: &String| folded(known) == folded(&text);
        let known = self.0.iter().find(|(name, known)| name.starts_with(licence) && is_same(known));
        if let Some((name, _)) = known {
            return name.clone();
        }
        let name = match self.0.contains_key(licence) {
            true => format!("{licence}-{}", of.replace('/', "-")),
            false => licence.into(),
        };
        self.0.insert(name.clone(), text);
        name
    }
}

/// The text of a licence in a file, without what comes before it.
fn body(file: &str, licence: &str) -> Option<String> {
    let (_, beginning) = LICENCES.into_iter().find(|(name, _)| *name == licence)?;
    let lines: Vec<&str> = file.lines().map(|line| line.trim_start_matches("//").trim()).collect();
    let begins =
        |at: &usize| folded(&lines[*at..lines.len().min(at + 3)].join("\n")).starts_with(beginning);
    let text = lines[(0..lines.len()).find(begins)?..].join("\n");
    let is_meant = match licence {
        "BSD-3-Clause" => text.contains(NO_ENDORSEMENT),
        "BSD-2-Clause" => !text.contains(NO_ENDORSEMENT),
        _ => true,
    };
    is_meant.then_some(text)
}

/// The copyright notices in a file, without the word Copyright. What follows the terms of the Apache licence is a form to
/// fill in, or about files that no binary contains.
fn notices_in(file: &str) -> impl Iterator<Item = String> {
    let lines = file.lines().take_while(|line| !line.contains("END OF TERMS AND CONDITIONS"));
    lines.filter_map(|line| {
        let rest = line.trim_start_matches("//").trim().strip_prefix("Copyright")?;
        let signs = [" (c)", " (C)", " ©", ","];
        let rest = signs.into_iter().find_map(|sign| rest.strip_prefix(sign)).unwrap_or(rest);
        rest.starts_with([' ', ',']).then(|| rest.trim_start_matches(',').trim().to_string())
    })
}

/// Several lines as one value of a field.
fn joined(lines: &BTreeSet<String>) -> String {
    lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n           ")
}

/// A text with its lines as they are but for white space at their ends.
fn indented(text: &str) -> String {
    let line = |line: &str| format!(" {}\n", if line.is_empty() { "." } else { line });
    text.trim().lines().map(line).collect()
}

/// A text with white space folded, to compare it.
fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
