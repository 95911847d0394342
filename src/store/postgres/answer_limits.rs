//! Limits what a server can make this process keep in memory. The length of each message is read before the
//! message is, so that one that is too long is refused at its first bytes; and what comes without a
//! request of ours in between is counted. A program that is not PostgreSQL, or one that is broken, may send
//! anything. (PostgreSQL documentation, "Message Formats", "Message Flow")

use std::fmt;
use std::sync::Arc;

use super::copy_state::CopyState;
use super::reported_settings::ReportedSettings;

/// The longest message up to the end of the login, in bytes. As in libpq (fe-connect.c, `MAX_ERRLEN`).
const LOGIN_MESSAGE_BYTES_MAX: u64 = 30_000;
/// All that a server sends up to the end of the login, and after it until it is ready for the first query: notices
/// of a login trigger among it.
const LOGIN_BYTES_MAX: u64 = 256 << 10;
/// The longest message afterwards, in bytes. A row of the catalogue, the longest that cts reads, has some
/// hundred.
const MESSAGE_BYTES_MAX: u64 = 2 << 20;
/// The longest answer, in bytes. That with the catalogue of our tables has about 100 KiB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// The settings that a server reports on a connection, each with its last value, in bytes: the library keeps them.
/// PostgreSQL reports 15 of them, and later those that change.
const SETTINGS_BYTES_MAX: u64 = 256 << 10;

/// The longest message with rows of a COPY, in bytes: the server makes one for each row, in a buffer of at most 1 GiB.
/// (PostgreSQL source, MaxAllocSize)
pub const COPIED_ROW_BYTES_MAX: u64 = (1 << 30) + 16;

/// The letter of a message that says that the server is ready for a query.
const READY_FOR_QUERY: u8 = b'Z';
/// The letter of a message with the value of a setting.
const PARAMETER_STATUS: u8 = b'S';
/// The length of what a message begins with.
const HEAD_BYTES: u64 = 5;

/// A server has sent more than cts reads of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerTooLong {
    /// A message of this many bytes; the limit.
    Message(u64, u64),
    /// A message whose length is less than that of the length itself.
    NoMessage,
    /// More than this many bytes before the login was over.
    Login(u64),
    /// More than this many bytes without a request.
    Answer(u64),
    /// Rows that take more than this many bytes of memory.
    Rows(u64),
    /// More than this many bytes of settings.
    Settings(u64),
}

impl fmt::Display for AnswerTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerTooLong::Message(bytes, limit) => write!(
                f,
                "the server announces a message of {bytes} bytes, and the longest that is read has {limit}"
            ),
            AnswerTooLong::NoMessage => {
                f.write_str("the server announces a message that is shorter than its own header")
            }
            AnswerTooLong::Login(limit) => {
                write!(f, "the server sends more than {limit} bytes before it is ready for a query")
            }
            AnswerTooLong::Answer(limit) => {
                write!(f, "the server sends more than {limit} bytes in answer to one request")
            }
            AnswerTooLong::Rows(limit) => {
                write!(
                    f,
                    "the server answers with rows that take more than {limit} bytes of memory"
                )
            }
            AnswerTooLong::Settings(limit) => {
                write!(f, "the server reports more than {limit} bytes of settings")
            }
        }
    }
}

impl std::error::Error for AnswerTooLong {}

/// The beginning of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// What kind of message it is.
    pub letter: u8,
    /// Its length with the four bytes of the length itself.
    length: u32,
    /// The number that the content of an authentication message begins with.
    pub request: Option<u32>,
}

/// The letter of the messages of the login.
pub const AUTHENTICATION: u8 = b'R';

/// The next part of what a server sends.
enum MessagePart<'b> {
    Head(MessageHead),
    /// Bytes of the present message after its head.
    Content(&'b [u8]),
}

/// Finds the messages in the bytes of a server: a letter, the length of the rest with its own four bytes, and the
/// rest.
#[derive(Default)]
struct MessageHeads {
    /// The beginning of the present message, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the present message that are still to come after its head.
    rest: u64,
}

impl MessageHeads {
    /// Takes the next part off the bytes.
    fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<MessagePart<'b>> {
        let content_bytes = self.rest.min(bytes.len() as u64);
        if content_bytes > 0 {
            let (content, after) = bytes.split_at(content_bytes as usize);
            self.rest -= content_bytes;
            *bytes = after;
            return Some(MessagePart::Content(content));
        }
        loop {
            let (first, after) = bytes.split_first()?;
            self.head.push(*first);
            *bytes = after;
            if let Some(head) = self.complete() {
                self.head.clear();
                return Some(MessagePart::Head(head));
            }
        }
    }

    /// The head, once all of it has come.
    fn complete(&mut self) -> Option<MessageHead> {
        let [letter, a, b, c, d, content @ ..] = self.head.as_slice() else { return None };
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        let content_bytes = u64::from(length).saturating_sub(4);
        let request = match content {
            [a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ if *letter == AUTHENTICATION && content_bytes >= 4 => return None,
            _ => None,
        };
        self.rest = content_bytes - content.len() as u64;
        Some(MessageHead { letter: *letter, length, request })
    }
}

/// Follows the messages of a server, and refuses what is too long.
#[derive(Default)]
pub struct MessageMeter {
    heads: MessageHeads,
    /// Bytes since the last request, or of the whole login, without the rows of a COPY.
    answer_bytes: u64,
    copy: Arc<CopyState>,
    /// Whether the present message is one with rows of a COPY.
    is_copied_row: bool,
    settings: ReportedSettings,
    /// Whether the server has been ready for a query.
    is_login_over: bool,
}

impl MessageMeter {
    /// Of a connection on which a COPY may come to be under way.
    pub fn new(copy: Arc<CopyState>) -> MessageMeter {
        MessageMeter { copy, ..MessageMeter::default() }
    }

    /// A request begins. Those of the login belong to it.
    pub fn wrote(&mut self) {
        if self.is_login_over {
            self.answer_bytes = 0;
        }
    }

    /// Goes through the next bytes of the server, and passes on the head of each message.
    ///
    /// # Errors
    /// [`AnswerTooLong`], or that of `see`.
    pub fn read<E: From<AnswerTooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut see: impl FnMut(MessageHead) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(part) = self.heads.next(&mut bytes) {
            match part {
                MessagePart::Head(head) => {
                    self.is_copied_row = self.is_login_over && self.copy.see(head.letter);
                    self.count(HEAD_BYTES)?;
                    self.check_head(head)?;
                    see(head)?;
                }
                MessagePart::Content(content) => {
                    self.count(content.len() as u64)?;
                    self.settings.read(content);
                }
            }
        }
        Ok(())
    }

    /// Counts bytes of the present message.
    fn count(&mut self, bytes: u64) -> Result<(), AnswerTooLong> {
        if self.is_copied_row {
            return Ok(());
        }
        self.answer_bytes += bytes;
        self.check_sum()
    }

    fn check_sum(&self) -> Result<(), AnswerTooLong> {
        match self.is_login_over {
            false if self.answer_bytes > LOGIN_BYTES_MAX => {
                Err(AnswerTooLong::Login(LOGIN_BYTES_MAX))
            }
            true if self.answer_bytes > ANSWER_BYTES_MAX => {
                Err(AnswerTooLong::Answer(ANSWER_BYTES_MAX))
            }
            _ => Ok(()),
        }
    }

    fn check_head(&mut self, head: MessageHead) -> Result<(), AnswerTooLong> {
        let length = u64::from(head.length);
        let limit = match self.is_login_over {
            true if self.is_copied_row => COPIED_ROW_BYTES_MAX,
            true => MESSAGE_BYTES_MAX,
            false => LOGIN_MESSAGE_BYTES_MAX,
        };
        if length > limit {
            return Err(AnswerTooLong::Message(length, limit));
        }
        if length < 4 {
            return Err(AnswerTooLong::NoMessage);
        }
        match head.letter {
            READY_FOR_QUERY => self.is_login_over = true,
            PARAMETER_STATUS if self.settings.begin(length) > SETTINGS_BYTES_MAX => {
                return Err(AnswerTooLong::Settings(SETTINGS_BYTES_MAX));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::copy_state::{COPY_DATA, ERROR};

    fn message(letter: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![letter];
        bytes.extend((length as u32).to_be_bytes());
        bytes.resize(length.max(4) + 1, 0);
        bytes
    }

    /// Reads bytes, and looks at no head.
    fn read(meter: &mut MessageMeter, bytes: &[u8]) -> Result<(), AnswerTooLong> {
        meter.read(bytes, |_| Ok(()))
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_at_its_header_however_its_bytes_come() {
        let mut bytes = [message(b'R', 8), message(b'Z', 5), message(b'T', 40)].concat();
        bytes.extend([b'D', 0x7f, 0xff, 0xff, 0xf0]);
        for chunk in 1..=bytes.len() {
            let mut meter = MessageMeter::default();
            let expected = AnswerTooLong::Message(0x7fff_fff0, MESSAGE_BYTES_MAX);
            let done = bytes.chunks(chunk).try_for_each(|part| read(&mut meter, part));
            assert_eq!(done, Err(expected), "{chunk}");
        }
    }

    #[test]
    fn less_is_read_before_the_login_is_over() {
        let long = message(b'E', 40_000);
        let limit = LOGIN_MESSAGE_BYTES_MAX;
        let mut meter = MessageMeter::default();
        assert_eq!(read(&mut meter, &long), Err(AnswerTooLong::Message(40_000, limit)));
        let mut meter = MessageMeter::default();
        let notices = message(b'N', 20_000).repeat(14);
        // What is written during the login does not begin another answer.
        assert_eq!(read(&mut meter, &notices[..200_000]), Ok(()));
        meter.wrote();
        assert_eq!(
            read(&mut meter, &notices[200_000..]),
            Err(AnswerTooLong::Login(LOGIN_BYTES_MAX))
        );
        let mut meter = MessageMeter::default();
        assert_eq!(read(&mut meter, &[message(b'Z', 5), long].concat()), Ok(()));
    }

    /// A message with the value of a setting.
    fn setting(name: &str, length: usize) -> Vec<u8> {
        let mut bytes = message(b'S', length);
        bytes[5..5 + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    #[test]
    fn an_answer_is_counted_from_its_request_and_settings_over_all_of_them() {
        let mut meter = MessageMeter::default();
        read(&mut meter, &message(b'Z', 5)).unwrap();
        let notice = message(b'N', 1 << 20);
        for _ in 0..3 {
            meter.wrote();
            assert_eq!(read(&mut meter, &notice.repeat(15)), Ok(()));
        }
        let too_long = Err(AnswerTooLong::Answer(ANSWER_BYTES_MAX));
        assert_eq!(read(&mut meter, &notice.repeat(2)), too_long);
        let mut meter = MessageMeter::default();
        read(&mut meter, &message(b'Z', 5)).unwrap();
        for number in 0..25 {
            meter.wrote();
            assert_eq!(read(&mut meter, &setting(&format!("s{number}"), 10_000)), Ok(()));
        }
        meter.wrote();
        let too_long = Err(AnswerTooLong::Settings(SETTINGS_BYTES_MAX));
        let more = [setting("more", 10_000), setting("most", 10_000)].concat();
        assert_eq!(read(&mut meter, &more), too_long);
    }

    /// The server reports the time zone at the beginning and at the end of a transaction that sets it.
    #[test]
    fn a_setting_that_is_reported_again_and_again_is_counted_once() {
        let reports = [
            setting("TimeZone", 4 + 9 + 14),
            setting("search_path", 4 + 12 + 9),
            message(b'Z', 5),
            setting("TimeZone", 4 + 9 + 4),
        ]
        .concat();
        for chunk in [1, 6, reports.len()] {
            let mut meter = MessageMeter::default();
            for _ in 0..10_000 {
                meter.wrote();
                let done = reports.chunks(chunk).try_for_each(|part| read(&mut meter, part));
                assert_eq!(done, Ok(()), "{chunk}");
                read(&mut meter, &message(b'Z', 5)).unwrap();
            }
            let too_long = Err(AnswerTooLong::Settings(SETTINGS_BYTES_MAX));
            assert_eq!(read(&mut meter, &setting("TimeZone", 300 << 10)), too_long);
        }
    }

    #[test]
    fn the_rows_of_a_copy_have_another_limit_while_it_is_under_way() {
        let copy = Arc::<CopyState>::default();
        let mut meter = MessageMeter::new(Arc::clone(&copy));
        read(&mut meter, &message(b'Z', 5)).unwrap();
        copy.begin();
        meter.wrote();
        let rows = message(COPY_DATA, 1 << 20);
        for _ in 0..40 {
            assert_eq!(read(&mut meter, &rows), Ok(()));
        }
        assert!(!copy.is_refused());
        read(&mut meter, &message(ERROR, 40)).unwrap();
        assert!(copy.is_refused());
        let head = |length: u64| [&[COPY_DATA][..], &(length as u32).to_be_bytes()].concat();
        let mut longer = MessageMeter::new(Arc::clone(&copy));
        read(&mut longer, &message(b'Z', 5)).unwrap();
        assert_eq!(read(&mut longer, &head(COPIED_ROW_BYTES_MAX)), Ok(()));
        let too_long = |length, limit| Err(AnswerTooLong::Message(length, limit));
        let length = COPIED_ROW_BYTES_MAX + 1;
        let mut longer = MessageMeter::new(Arc::clone(&copy));
        read(&mut longer, &message(b'Z', 5)).unwrap();
        assert_eq!(read(&mut longer, &head(length)), too_long(length, COPIED_ROW_BYTES_MAX));
        // Other messages, and what comes before the login is over.
        let other = message(b'T', 3 << 20);
        assert_eq!(read(&mut meter, &other[..5]), too_long(3 << 20, MESSAGE_BYTES_MAX));
        let mut early = MessageMeter::new(Arc::clone(&copy));
        assert_eq!(read(&mut early, &rows), too_long(1 << 20, LOGIN_MESSAGE_BYTES_MAX));
        copy.end();
        let mut meter = MessageMeter::new(copy);
        read(&mut meter, &message(b'Z', 5)).unwrap();
        let done = (0..40).try_for_each(|_| read(&mut meter, &rows));
        assert_eq!(done, Err(AnswerTooLong::Answer(ANSWER_BYTES_MAX)));
    }

    #[test]
    fn a_length_that_no_message_can_have_is_refused() {
        let mut meter = MessageMeter::default();
        assert_eq!(read(&mut meter, &[b'D', 0, 0, 0, 3]), Err(AnswerTooLong::NoMessage));
    }
}
