//! The texts of times and days in a SQLite database, as they are copied: every form that programs write is read (see
//! `DAY` and `CLOCK` in the folder of PostgreSQL, what an adoption accepts), and one form is written. No database is used
//! here, and nothing is allocated: a copy reads and writes some of these texts in each row.

use std::fmt;

use super::{Day, Incompatibility, Moment};
use crate::system::clock::{civil_from_days, days_from_civil};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const MICROSECONDS_PER_MINUTE: i64 = 60 * MICROSECONDS_PER_SECOND;
const MICROSECONDS_PER_DAY: i64 = 24 * 60 * MICROSECONDS_PER_MINUTE;
/// 0001-01-01, in days since 1970-01-01.
const FIRST_DAY: i64 = -719_162;
/// 9999-12-31.
const LAST_DAY: i64 = 2_932_896;
/// Digits of a fraction of a second that are kept.
const FRACTION_DIGITS: usize = 6;
/// The bytes of the longest text: `2026-11-27 20:30:45.123456`.
const TEXT_BYTES_MAX: usize = 26;
const DAY_BYTES: usize = 10;

/// Reads a time: a day, or `YYYY-MM-DD HH:MM[:SS[.fraction]]` with a space or a `T` before the hour, and with nothing, `Z`
/// or an offset (`+05`, `+05:30`, `+0530`) behind it. Without zone it is UTC.
///
/// # Errors
/// It is no such text, its fraction has digits below the microsecond, or its year in UTC is not from 1 to 9999.
pub fn parse_moment(text: &[u8]) -> Result<Moment, Incompatibility> {
    let (days, clock) = split_day(text).ok_or(Incompatibility::NoTime)?;
    let ClockTime { microseconds, is_finer } = match clock {
        [] => ClockTime::default(),
        clock => parse_clock(clock).ok_or(Incompatibility::NoTime)?,
    };
    if is_finer {
        return Err(Incompatibility::FinerThanMicrosecond);
    }
    let moment = Moment(days * MICROSECONDS_PER_DAY + microseconds);
    prove_moment(moment).map(|()| moment)
}

/// Reads a day, `YYYY-MM-DD`.
///
/// # Errors
/// It is no such text.
pub fn parse_day(text: &[u8]) -> Result<Day, Incompatibility> {
    match split_day(text) {
        Some((days, [])) => i32::try_from(days).map(Day).map_err(|_| Incompatibility::NoDay),
        _ => Err(Incompatibility::NoDay),
    }
}

/// Proves that a time has a text on SQLite.
///
/// # Errors
/// It is infinite, or its year is not from 1 to 9999.
pub fn prove_moment(moment: Moment) -> Result<(), Incompatibility> {
    match moment.0 {
        i64::MIN | i64::MAX => Err(Incompatibility::InfiniteTime),
        microseconds => prove_year(microseconds.div_euclid(MICROSECONDS_PER_DAY)),
    }
}

/// Proves that a day has a text on SQLite.
///
/// # Errors
/// As [`prove_moment`].
pub fn prove_day(day: Day) -> Result<(), Incompatibility> {
    match day.0 {
        i32::MIN | i32::MAX => Err(Incompatibility::InfiniteTime),
        days => prove_year(days.into()),
    }
}

fn prove_year(days: i64) -> Result<(), Incompatibility> {
    match (FIRST_DAY..=LAST_DAY).contains(&days) {
        true => Ok(()),
        false => Err(Incompatibility::YearOutOfRange),
    }
}

/// A time of day, moved to UTC, so that it may be negative or more than a day.
#[derive(Default)]
struct ClockTime {
    microseconds: i64,
    /// Whether it has digits below the microsecond, which are left out here.
    is_finer: bool,
}

/// The days since 1970-01-01 of the day that a text begins with, and the rest of the text.
fn split_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = two_digits(*y1, *y2)? * 100 + two_digits(*y3, *y4)?;
    let (month, day) = (two_digits(*m1, *m2)?, two_digits(*d1, *d2)?);
    let is_valid = year > 0 && (1..=12).contains(&month) && day > 0;
    (is_valid && day <= days_of_month(year, month))
        .then(|| (days_from_civil(year, month, day), rest))
}

fn parse_clock(text: &[u8]) -> Option<ClockTime> {
    let [b' ' | b'T', h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hours, minutes) = (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?);
    let mut time = ClockTime::default();
    let (seconds, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (two_digits(*s1, *s2)?, rest),
        rest => (0, rest),
    };
    // A fraction follows seconds only.
    let rest = match rest {
        [b'.', fraction @ ..] if text.get(6) == Some(&b':') => {
            let end = fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
            let (digits, rest) = fraction.split_at(end);
            time = parse_fraction(digits)?;
            rest
        }
        rest => rest,
    };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    time.microseconds += ((hours * 60 + minutes) * 60 + seconds) * MICROSECONDS_PER_SECOND;
    time.microseconds -= parse_offset(rest)? * MICROSECONDS_PER_MINUTE;
    Some(time)
}

fn parse_fraction(digits: &[u8]) -> Option<ClockTime> {
    if digits.is_empty() {
        return None;
    }
    let (kept, finer) = digits.split_at(digits.len().min(FRACTION_DIGITS));
    let number = kept.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let microseconds = (kept.len()..FRACTION_DIGITS).fold(number, |number, _| number * 10);
    Some(ClockTime { microseconds, is_finer: finer.iter().any(|digit| *digit != b'0') })
}

/// The minutes by which a time is ahead of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, two_digits(*h1, *h2)?, 0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            (sign, two_digits(*h1, *h2)?, two_digits(*m1, *m2)?)
        }
        _ => return None,
    };
    let total = hours * 60 + minutes;
    (hours <= 14 && minutes <= 59).then_some(if *sign == b'-' { -total } else { total })
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let are_digits = tens.is_ascii_digit() && ones.is_ascii_digit();
    are_digits.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The text of a time or of a day. Of a time `YYYY-MM-DD HH:MM:SS.SSS`, and with six digits where the microseconds are no
/// whole milliseconds.
pub struct TimeText {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

impl TimeText {
    /// The text of a time.
    ///
    /// # Errors
    /// As [`prove_moment`].
    pub fn of_moment(moment: Moment) -> Result<TimeText, Incompatibility> {
        prove_moment(moment)?;
        let mut text = TimeText::begin(moment.0.div_euclid(MICROSECONDS_PER_DAY));
        let of_day = moment.0.rem_euclid(MICROSECONDS_PER_DAY);
        let (seconds, fraction) =
            (of_day / MICROSECONDS_PER_SECOND, of_day % MICROSECONDS_PER_SECOND);
        text.push(b' ');
        text.push_number(seconds / 3600, 2);
        text.push(b':');
        text.push_number(seconds / 60 % 60, 2);
        text.push(b':');
        text.push_number(seconds % 60, 2);
        text.push(b'.');
        match fraction % 1000 {
            0 => text.push_number(fraction / 1000, 3),
            _ => text.push_number(fraction, FRACTION_DIGITS),
        }
        Ok(text)
    }

    /// The text of a day.
    ///
    /// # Errors
    /// As [`prove_day`].
    pub fn of_day(day: Day) -> Result<TimeText, Incompatibility> {
        prove_day(day)?;
        Ok(TimeText::begin(day.0.into()))
    }

    /// Its bytes, all ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Writes the text from this byte on.
    fn write(&self, f: &mut fmt::Formatter<'_>, from: usize) -> fmt::Result {
        let bytes = self.as_bytes().get(from..).unwrap_or_default();
        f.write_str(std::str::from_utf8(bytes).unwrap_or_default())
    }

    fn begin(days: i64) -> TimeText {
        let (year, month, day) = civil_from_days(days);
        let mut text = TimeText { bytes: *b"0000-00-00 00:00:00.000000", length: 0 };
        text.push_number(year, 4);
        text.push(b'-');
        text.push_number(month, 2);
        text.push(b'-');
        text.push_number(day, 2);
        debug_assert_eq!(text.length, DAY_BYTES);
        text
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    /// The number with so many digits.
    fn push_number(&mut self, number: i64, digits: usize) {
        let end = (self.length + digits).min(TEXT_BYTES_MAX);
        let mut rest = number.unsigned_abs();
        for place in self.bytes.get_mut(self.length..end).unwrap_or_default().iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        self.length = end;
    }
}

impl fmt::Display for Moment {
    /// As on SQLite. One that SQLite has no text for is shown as PostgreSQL does, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (TimeText::of_moment(*self), self.0) {
            (Ok(text), _) => text.write(f, 0),
            (_, i64::MIN) => f.write_str("-infinity"),
            (_, i64::MAX) => f.write_str("infinity"),
            (_, microseconds) => {
                let era = write_far_day(f, microseconds.div_euclid(MICROSECONDS_PER_DAY))?;
                let of_day = Moment(microseconds.rem_euclid(MICROSECONDS_PER_DAY));
                if let Ok(text) = TimeText::of_moment(of_day) {
                    text.write(f, DAY_BYTES)?;
                }
                f.write_str(era)
            }
        }
    }
}

impl fmt::Display for Day {
    /// As that of [`Moment`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (TimeText::of_day(*self), self.0) {
            (Ok(text), _) => text.write(f, 0),
            (_, i32::MIN) => f.write_str("-infinity"),
            (_, i32::MAX) => f.write_str("infinity"),
            (_, days) => {
                let era = write_far_day(f, days.into())?;
                f.write_str(era)
            }
        }
    }
}

/// Writes a day outside of the years 1 to 9999. Returns what its era adds at the end: the year before 1 is 1 BC.
fn write_far_day(f: &mut fmt::Formatter<'_>, days: i64) -> Result<&'static str, fmt::Error> {
    let (year, month, day) = civil_from_days(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    write!(f, "{year:04}-{month:02}-{day:02}").map(|()| era)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_read() {
        const NOON: i64 = 20_784 * MICROSECONDS_PER_DAY + 12 * 3600 * MICROSECONDS_PER_SECOND;
        for (text, expected) in [
            ("2026-11-27", NOON - 12 * 3600 * MICROSECONDS_PER_SECOND),
            ("2026-11-27 12:00", NOON),
            ("2026-11-27T12:00Z", NOON),
            ("2026-11-27 12:00:00", NOON),
            ("2026-11-27 12:00:01.5", NOON + 1_500_000),
            ("2026-11-27 12:00:00.123", NOON + 123_000),
            ("2026-11-27T12:00:00.123456Z", NOON + 123_456),
            ("2026-11-27 12:00:00.000001000000000", NOON + 1),
            ("2026-11-27 17:00:00+05", NOON),
            ("2026-11-27 17:30+05:30", NOON),
            ("2026-11-27T17:30:00.000+0530", NOON),
            ("2026-11-27 00:00:00-12", NOON),
            ("2026-11-28T02:59:00+14:59", NOON),
            ("1970-01-01 00:00:00.000", 0),
            ("1969-12-31 23:59:59.999999", -1),
            ("0001-01-01", FIRST_DAY * MICROSECONDS_PER_DAY),
            ("9999-12-31 23:59:59.999999", (LAST_DAY + 1) * MICROSECONDS_PER_DAY - 1),
            ("2000-02-29", 11_016 * MICROSECONDS_PER_DAY),
        ] {
            assert_eq!(parse_moment(text.as_bytes()), Ok(Moment(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told() {
        use Incompatibility::{FinerThanMicrosecond, NoTime, YearOutOfRange};
        for (text, reason) in [
            ("", NoTime),
            ("yesterday", NoTime),
            ("0000-01-01", NoTime),
            ("2026-11-31", NoTime),
            ("1900-02-29", NoTime),
            ("2026-00-01", NoTime),
            ("2026-01-00", NoTime),
            ("2026-1-1", NoTime),
            ("2026-11-27 ", NoTime),
            ("2026-11-27Z", NoTime),
            ("2026-11-27 24:00", NoTime),
            ("2026-11-27 12:60", NoTime),
            ("2026-11-27 12:00:60", NoTime),
            ("2026-11-27 12", NoTime),
            ("2026-11-27t12:00", NoTime),
            ("2026-11-27 12:00:00.", NoTime),
            ("2026-11-27 12:00.5", NoTime),
            ("2026-11-27 12:00:00z", NoTime),
            ("2026-11-27 12:00:00 +00", NoTime),
            ("2026-11-27 12:00:00+15", NoTime),
            ("2026-11-27 12:00:00+05:60", NoTime),
            ("2026-11-27 12:00:00+5", NoTime),
            ("2026-11-27 12:00:00.1234567z", NoTime),
            ("-001-01-01", NoTime),
            ("12026-11-27", NoTime),
            ("infinity", NoTime),
            ("2026-11-27 12:00:00\0", NoTime),
            ("\u{0662}026-11-27", NoTime),
            ("2026-11-27 12:00:00.1234567", FinerThanMicrosecond),
            ("2026-11-27 12:00:00.0000000000001Z", FinerThanMicrosecond),
            ("0001-01-01 00:00+00:01", YearOutOfRange),
            ("9999-12-31 23:59:59.999999-00:01", YearOutOfRange),
        ] {
            assert_eq!(parse_moment(text.as_bytes()), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_day_is_read_alone() {
        assert_eq!(parse_day(b"1970-01-02"), Ok(Day(1)));
        for text in ["1970-01-02 00:00", "1970-02-30", "", "1970-01-2"] {
            assert_eq!(parse_day(text.as_bytes()), Err(Incompatibility::NoDay), "{text}");
        }
    }

    #[test]
    fn every_day_is_written_as_it_is_read() {
        for days in FIRST_DAY..=LAST_DAY {
            let day = Day(i32::try_from(days).unwrap());
            let text = TimeText::of_day(day).unwrap();
            assert_eq!(parse_day(text.as_bytes()), Ok(day));
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_shown() {
        for (microseconds, written) in [
            (0, "1970-01-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999999"),
            (1_795_811_445_123_000, "2026-11-27 20:30:45.123"),
            (1_795_811_445_000_010, "2026-11-27 20:30:45.000010"),
            (FIRST_DAY * MICROSECONDS_PER_DAY, "0001-01-01 00:00:00.000"),
            ((LAST_DAY + 1) * MICROSECONDS_PER_DAY - 1, "9999-12-31 23:59:59.999999"),
        ] {
            let text = TimeText::of_moment(Moment(microseconds)).unwrap();
            assert_eq!(text.as_bytes(), written.as_bytes());
            assert_eq!(Moment(microseconds).to_string(), written);
            assert_eq!(parse_moment(written.as_bytes()), Ok(Moment(microseconds)));
        }
    }

    #[test]
    fn a_time_without_text_is_shown_as_postgresql_does() {
        let midnight = |days: i64| Moment(days * MICROSECONDS_PER_DAY);
        for (moment, shown) in [
            (midnight(FIRST_DAY - 1), "0001-12-31 00:00:00.000 BC"),
            (midnight(days_from_civil(-43, 3, 15)), "0044-03-15 00:00:00.000 BC"),
            (midnight(LAST_DAY + 1), "10000-01-01 00:00:00.000"),
            (Moment(i64::MAX), "infinity"),
            (Moment(i64::MIN), "-infinity"),
        ] {
            assert_eq!(moment.to_string(), shown);
        }
        assert_eq!(Day(i32::try_from(FIRST_DAY).unwrap() - 1).to_string(), "0001-12-31 BC");
        assert_eq!(Day(2_932_897).to_string(), "10000-01-01");
    }

    #[test]
    fn a_time_without_text_is_refused() {
        use Incompatibility::{InfiniteTime, YearOutOfRange};
        for (microseconds, reason) in [
            (i64::MIN, InfiniteTime),
            (i64::MAX, InfiniteTime),
            (FIRST_DAY * MICROSECONDS_PER_DAY - 1, YearOutOfRange),
            ((LAST_DAY + 1) * MICROSECONDS_PER_DAY, YearOutOfRange),
            (i64::MIN + 1, YearOutOfRange),
            (i64::MAX - 1, YearOutOfRange),
        ] {
            assert_eq!(TimeText::of_moment(Moment(microseconds)).err(), Some(reason));
        }
        assert_eq!(TimeText::of_day(Day(i32::MIN)).err(), Some(InfiniteTime));
        assert_eq!(TimeText::of_day(Day(2_932_897)).err(), Some(YearOutOfRange));
    }
}
