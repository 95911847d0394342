//! The digest of rows: it does not depend on the order of the rows, nor on the store that they are in. Each row is
//! written in a canonical form; the SHA-256 of these are added modulo 2^256, so that a row that is missing, altered or there
//! twice shows, as does a value that has changed its column. (A sum by XOR would not see a row that is there twice more.)

use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

use super::{Day, Field, Moment, Value, interrupted};
use crate::error::Result;

/// Bytes of a SHA-256.
const HASH_BYTES: usize = 32;

/// Number and digest of the rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDigest {
    /// The number of rows.
    pub rows: u64,
    /// The sum of their hashes, the lowest 64 bits first.
    sum: [u64; 4],
}

impl TableDigest {
    /// Adds a row, given as its hash.
    pub fn add(&mut self, hash: &RowHash) {
        self.add_sum(1, hash.words());
    }

    /// Adds the rows of another digest.
    pub fn add_all(&mut self, other: &TableDigest) {
        self.add_sum(other.rows, other.sum);
    }

    /// Takes a row away, given as its hash, which is among these.
    pub fn remove(&mut self, hash: &RowHash) {
        self.remove_all(&TableDigest { rows: 1, sum: hash.words() });
    }

    /// The digest of so many rows, read from its 64 hexadecimal digits. `None` where the text is something else.
    pub fn from_text(rows: u64, text: &str) -> Option<TableDigest> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 2 * HASH_BYTES || !text.bytes().all(is_digit) {
            return None;
        }
        let mut sum = [0; 4];
        for (at, word) in sum.iter_mut().rev().enumerate() {
            *word = u64::from_str_radix(text.get(16 * at..16 * at + 16)?, 16).ok()?;
        }
        Some(TableDigest { rows, sum })
    }

    /// Takes the rows of another digest away, which are among these.
    pub fn remove_all(&mut self, other: &TableDigest) {
        let rows = self.rows - other.rows.min(self.rows);
        // The sum modulo 2^256 is that with the complement, and one.
        self.add_sum(0, other.sum.map(|word| !word));
        self.add_sum(0, [1, 0, 0, 0]);
        self.rows = rows;
    }

    fn add_sum(&mut self, rows: u64, words: [u64; 4]) {
        self.rows += rows;
        let mut carry = false;
        for (sum, word) in self.sum.iter_mut().zip(words) {
            let (with_word, over) = sum.overflowing_add(word);
            let (with_carry, over_carry) = with_word.overflowing_add(u64::from(carry));
            (*sum, carry) = (with_carry, over || over_carry);
        }
    }
}

impl fmt::Display for TableDigest {
    /// The sum in 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sum.iter().rev().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

/// The SHA-256 of a row in its canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowHash([u8; HASH_BYTES]);

impl RowHash {
    /// The hash as numbers, the lowest 64 bits first.
    fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().rev().zip(self.0.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        words
    }
}

/// The rows that are handed to the thread of a [`TableHasher`] at once, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that wait for it: so many that neither side waits for the other for long, and so few that rows of many MiB do
/// not pile up.
const BATCHES_MAX: usize = 1;

/// Computes the digest of a table. Once there are more rows than a batch, a thread of its own hashes them, while the next
/// ones are read.
#[derive(Default)]
pub struct TableHasher {
    batch: RowBatch,
    digest: TableDigest,
    thread: Option<HashThread>,
}

/// Rows in their canonical form, one behind the other.
#[derive(Default)]
struct RowBatch {
    forms: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

struct HashThread {
    batches: SyncSender<RowBatch>,
    done: JoinHandle<TableDigest>,
}

impl TableHasher {
    /// Adds a row.
    pub fn add(&mut self, row: &[Field<'_>]) {
        self.batch.add(row);
        if self.batch.forms.len() < BATCH_BYTES {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if self.thread.is_none() {
            self.thread = HashThread::start();
        }
        // Without a thread the rows are hashed here.
        let refused = match &self.thread {
            Some(thread) => thread.batches.send(batch).err().map(|refused| refused.0),
            None => Some(batch),
        };
        if let Some(batch) = refused {
            batch.add_to(&mut self.digest);
        }
    }

    /// The digest of all rows.
    ///
    /// # Errors
    /// If the thread has ended before its work was done.
    pub fn finish(mut self) -> Result<TableDigest> {
        self.batch.add_to(&mut self.digest);
        if let Some(HashThread { batches, done }) = self.thread {
            drop(batches);
            let hashed = done.join().map_err(|_| interrupted())?;
            self.digest.add_all(&hashed);
        }
        Ok(self.digest)
    }
}

impl HashThread {
    /// Starts it; `None` if the operating system gives no thread.
    fn start() -> Option<HashThread> {
        let (batches, received) = mpsc::sync_channel::<RowBatch>(BATCHES_MAX);
        let hash_all = move || {
            let mut digest = TableDigest::default();
            received.iter().for_each(|batch| batch.add_to(&mut digest));
            digest
        };
        let done = thread::Builder::new().name("digest".into()).spawn(hash_all).ok()?;
        Some(HashThread { batches, done })
    }
}

impl RowBatch {
    fn add(&mut self, row: &[Field<'_>]) {
        write_row(&mut self.forms, row);
        self.ends.push(self.forms.len());
    }

    fn add_to(&self, digest: &mut TableDigest) {
        let mut start = 0;
        for end in &self.ends {
            let form = self.forms.get(start..*end).unwrap_or_default();
            digest.add(&RowHash(Sha256::digest(form).into()));
            start = *end;
        }
    }
}

/// Computes the hashes of single rows.
#[derive(Default)]
pub struct RowHasher {
    /// The canonical form of a row.
    form: Vec<u8>,
}

impl RowHasher {
    /// The hash of a row.
    pub fn hash(&mut self, row: &[Field<'_>]) -> RowHash {
        self.form.clear();
        write_row(&mut self.form, row);
        RowHash(Sha256::digest(&self.form).into())
    }
}

/// Writes a row in its canonical form. A field that is an error is equal to no value.
fn write_row(form: &mut Vec<u8>, row: &[Field<'_>]) {
    for field in row {
        match field {
            Ok(value) => write_canonical(form, value),
            Err(_) => form.push(b'!'),
        }
    }
}

/// Writes a value as a letter for its type and its bytes, a text or bytes with its length before it, so that no two rows
/// have one form.
fn write_canonical(form: &mut Vec<u8>, value: &Value<'_>) {
    let mut write = |letter: u8, bytes: &[u8]| {
        form.push(letter);
        form.extend_from_slice(bytes);
    };
    match value {
        Value::Null => write(b'0', &[]),
        Value::Boolean(value) => write(b'b', &[u8::from(*value)]),
        Value::Integer(value) => write(b'i', &value.to_be_bytes()),
        Value::Real(value) => write(b'r', &canonical_bits(*value).to_be_bytes()),
        Value::Time(Moment(value)) => write(b't', &value.to_be_bytes()),
        Value::Day(Day(value)) => write(b'd', &value.to_be_bytes()),
        Value::Text(text) => {
            write(b's', &(text.len() as u64).to_be_bytes());
            form.extend_from_slice(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            write(b'x', &(bytes.len() as u64).to_be_bytes());
            form.extend_from_slice(bytes);
        }
    }
}

/// The bits of a double. Zero has one form, whatever its sign is, and NaN too: both databases call them equal.
fn canonical_bits(value: f64) -> u64 {
    if value == 0.0 {
        0
    } else if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[&[Value<'static>]]) -> TableDigest {
        let (mut digest, mut hasher) = (TableDigest::default(), RowHasher::default());
        for row in rows {
            let fields: Vec<Field<'_>> = row.iter().cloned().map(Ok).collect();
            digest.add(&hasher.hash(&fields));
        }
        digest
    }

    fn text(text: &'static str) -> Value<'static> {
        Value::Text(text.into())
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_else_does() {
        let (a, b) = ([text("a"), Value::Null], [text("b"), Value::Integer(1)]);
        let both = digest(&[&a, &b]);
        assert_eq!(both, digest(&[&b, &a]));
        for other in [
            digest(&[&a]),
            digest(&[&a, &b, &b]),
            digest(&[&a, &b, &a, &a]),
            digest(&[&[Value::Null, text("a")], &b]),
            digest(&[&a, &[text("b"), Value::Real(1.0)]]),
            digest(&[&[text("a"), text("")], &b]),
        ] {
            assert_ne!(both, other);
        }
    }

    #[test]
    fn the_ends_of_texts_show() {
        assert_ne!(digest(&[&[text("ab"), text("c")]]), digest(&[&[text("a"), text("bc")]]));
    }

    #[test]
    fn values_that_both_databases_call_equal_have_one_form() {
        let real = |value| digest(&[&[Value::Real(value)]]);
        assert_eq!(real(0.0), real(-0.0));
        assert_eq!(real(f64::NAN), real(-f64::NAN));
        assert_ne!(real(0.0), real(5e-324));
    }

    #[test]
    fn hashes_are_added_as_numbers_of_256_bits() {
        let mut sum = TableDigest::default();
        sum.add(&RowHash([0xff; HASH_BYTES]));
        assert_eq!(sum.to_string(), "f".repeat(64));
        let mut one = [0; HASH_BYTES];
        one[HASH_BYTES - 1] = 1;
        sum.add(&RowHash(one));
        assert_eq!((sum.rows, sum.to_string()), (2, "0".repeat(64)));
        sum.add(&RowHash(one));
        let mut twice = sum;
        twice.add_all(&sum);
        assert_eq!((twice.rows, twice.to_string()), (6, format!("{:064x}", 2)));
        twice.remove_all(&sum);
        assert_eq!(twice, sum);
        let read = TableDigest::from_text(3, &sum.to_string());
        assert_eq!(read, Some(sum));
        for no_digest in
            ["", "0", &"G".repeat(64), &"F".repeat(64), &"0".repeat(65), &"+".repeat(64)]
        {
            assert_eq!(TableDigest::from_text(0, no_digest), None);
        }
        let mut without = sum;
        without.remove(&RowHash(one));
        without.add(&RowHash(one));
        assert_eq!(without, sum);
        let mut first = TableDigest::default();
        first.add(&RowHash([0xff; HASH_BYTES]));
        sum.remove_all(&first);
        assert_eq!((sum.rows, sum.to_string()), (2, format!("{:064x}", 2)));
    }

    #[test]
    fn a_thread_computes_the_same_digest() {
        let (mut table, mut expected) = (TableHasher::default(), TableDigest::default());
        let mut hasher = RowHasher::default();
        let long = "x".repeat(BATCH_BYTES / 10);
        for number in 0..57 {
            let row = [Ok(Value::Integer(number)), Ok(Value::Text(long.as_str().into()))];
            table.add(&row);
            expected.add(&hasher.hash(&row));
        }
        assert!(table.thread.is_some());
        assert_eq!(table.finish().unwrap(), expected);
    }

    #[test]
    fn the_hash_is_that_of_the_documented_form() {
        let hash = RowHasher::default().hash(&[Ok(text("a")), Ok(Value::Null)]);
        let expected: [u8; HASH_BYTES] = Sha256::digest(b"s\0\0\0\0\0\0\0\x01a0").into();
        assert_eq!(hash.0, expected);
    }
}
