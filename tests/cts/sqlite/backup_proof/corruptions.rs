//! One hundred corruptions of backups, drawn at random and the same in each run, with their companions beside them and
//! without: each is found before anything is put in place.

use std::fs;
use std::path::{Path, PathBuf};

use super::{backup, beside, fill, manifest, names, verify};
use crate::support::harness::{Machine, for_each};
use crate::support::random::Random;

const CORRUPTIONS: u64 = 100;

/// Two backups of a database that has changed much between them.
struct Pair {
    machine: Machine,
    first: PathBuf,
    second: PathBuf,
}

impl Pair {
    fn make(flags: &str, ending: &str) -> Pair {
        let machine = Machine::migrated();
        fill(&machine, 3);
        let first = backup(&machine, "made", &format!("first.{ending}"), flags);
        fill(&machine, 7);
        let second = backup(&machine, "made", &format!("second.{ending}"), flags);
        Pair { machine, first, second }
    }

    /// A copy of the first in a new folder, with its companions or without.
    fn copy(&self, number: u64, with_companions: bool) -> PathBuf {
        let folder = self.machine.path(&format!("copy{number}"));
        fs::create_dir(&folder).unwrap();
        let copy = folder.join(self.first.file_name().unwrap());
        let endings: &[&str] = if with_companions { &["", ".sha256", ".json"] } else { &[""] };
        for ending in endings {
            fs::copy(beside(&self.first, ending), beside(&copy, ending)).unwrap();
        }
        copy
    }
}

/// A way to corrupt a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Corruption {
    Truncated,
    BitOfData,
    BitOfDigest,
    BitOfManifest,
    DigestOfAnother,
    ManifestOfAnother,
    DataOfAnother,
    /// The end was allocated and never written.
    HalfWritten,
    /// The second half is that of another backup.
    HalfOfAnother,
    SomethingBehind,
}

use Corruption::*;

const ALL: [Corruption; 10] = [
    Truncated,
    BitOfData,
    BitOfDigest,
    BitOfManifest,
    DigestOfAnother,
    ManifestOfAnother,
    DataOfAnother,
    HalfWritten,
    HalfOfAnother,
    SomethingBehind,
];
/// Those that concern the data alone. A whole backup under another name is no corruption where nothing says which it was.
const OF_DATA: [Corruption; 5] =
    [Truncated, BitOfData, HalfWritten, HalfOfAnother, SomethingBehind];

impl Corruption {
    fn corrupt(self, copy: &Path, other: &Path, random: &mut Random) {
        let ending = match self {
            BitOfDigest | DigestOfAnother => ".sha256",
            BitOfManifest | ManifestOfAnother => ".json",
            _ => "",
        };
        let file = beside(copy, ending);
        let mut bytes = fs::read(&file).unwrap();
        let another = fs::read(beside(other, ending)).unwrap();
        match self {
            BitOfData | BitOfDigest | BitOfManifest => {
                let bit = random.below(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Truncated => bytes.truncate(random.below(bytes.len())),
            DigestOfAnother | ManifestOfAnother | DataOfAnother => bytes = another,
            HalfWritten => {
                let from = random.below(bytes.len() - 1);
                bytes[from..].fill(0);
            }
            HalfOfAnother => {
                let middle = bytes.len().min(another.len()) / 2;
                bytes.splice(middle.., another[middle..].iter().copied());
            }
            SomethingBehind => bytes.extend(random.bytes(9000).iter().chain(&[1])),
        }
        fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn one_hundred_corruptions_are_found_with_the_companions() {
    for (flags, ending) in [("", "db"), ("--compress", "db.zst")] {
        let pair = Pair::make(flags, ending);
        for_each(0..CORRUPTIONS, |number| {
            let mut random = Random(number);
            let corruption = ALL[random.below(ALL.len())];
            let copy = pair.copy(number, true);
            corruption.corrupt(&copy, &pair.second, &mut random);
            let (before, data) = (names(copy.parent().unwrap()), fs::read(&copy).unwrap());
            let done = verify(&pair.machine, &copy).run();
            let log = done.err();
            assert_eq!(done.0.status.code(), Some(65), "{number} {corruption:?}, {ending}: {log}");
            assert_eq!(log.lines().count(), 1, "{log}");
            assert_eq!(names(copy.parent().unwrap()), before);
            assert!(fs::read(&copy).unwrap() == data);
        });
        verify(&pair.machine, &pair.first).success();
        assert_eq!(manifest(&pair.first)["drill"]["failure"], serde_json::Value::Null);
    }
}

/// A compressed backup holds its own SHA-256.
#[test]
fn one_hundred_corruptions_of_a_compressed_backup_are_found_by_itself() {
    let pair = Pair::make("--compress", "db.zst");
    for_each(0..CORRUPTIONS, |number| {
        let mut random = Random(1000 + number);
        let corruption = OF_DATA[random.below(OF_DATA.len())];
        let copy = pair.copy(number, false);
        corruption.corrupt(&copy, &pair.second, &mut random);
        let done = verify(&pair.machine, &copy).run();
        let log = done.err();
        assert_eq!(done.0.status.code(), Some(65), "{number} {corruption:?}: {log}");
    });
    let alone = pair.copy(CORRUPTIONS, false);
    let done = verify(&pair.machine, &alone).success();
    assert!(!done.err().contains("⚠"), "{}", done.err());
}

/// Without its SHA-256, an uncompressed backup is a database like any other: what breaks its structure is found, and a changed
/// bit within a value or in unused space is not, which is said.
#[test]
fn corruptions_of_the_structure_of_a_plain_backup_are_found_by_itself() {
    let pair = Pair::make("", "db");
    for_each(0..CORRUPTIONS, |number| {
        let mut random = Random(2000 + number);
        let corruption = OF_DATA[random.below(OF_DATA.len())];
        let copy = pair.copy(number, false);
        corruption.corrupt(&copy, &pair.second, &mut random);
        let done = verify(&pair.machine, &copy).run();
        match (corruption, done.0.status.code()) {
            (_, Some(65)) => {}
            // What is behind the last page is no part of the database.
            (BitOfData | SomethingBehind, Some(0)) => {
                drop(done.says(&["there is no SHA-256 beside it"]))
            }
            // The end may have been unused.
            (HalfWritten, Some(0)) if same_rows(&pair.first, &copy) => {}
            (_, code) => panic!("{number} {corruption:?}: {code:?}: {}", done.err()),
        }
    });
}

/// Whether two databases hold the same rows.
fn same_rows(one: &Path, other: &Path) -> bool {
    let rows = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        let mut statement = conn.prepare("SELECT id, message FROM site_logs ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect::<Vec<(i64, String)>>()
    };
    rows(one) == rows(other)
}
