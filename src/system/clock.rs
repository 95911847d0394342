//! The clock of this machine as text, in UTC. It may be wrong by any amount: on a machine whose battery is
//! empty it starts in the past, and nothing here fails for that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// When this binary was built, in seconds since 1970.
const BUILT_AT_SECONDS: &str = env!("BUILT_AT_SECONDS");
const MILLISECONDS_PER_DAY: i64 = 24 * 3600 * 1000;
/// 0000-01-01T00:00:00.000Z in milliseconds since 1970.
const FIRST: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z in milliseconds since 1970.
const LAST: i64 = 253_402_300_799_999;

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A clock that runs evenly from the moment at which it is started, however the machine's clock is set meanwhile, and
/// also while the machine sleeps (CLOCK_BOOTTIME of clock_gettime(2)).
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    started_at: SystemTime,
    started: Duration,
}

impl SteadyClock {
    /// A clock that starts now.
    pub fn start() -> SteadyClock {
        SteadyClock { started_at: SystemTime::now(), started: since_boot() }
    }

    /// What the machine's clock said when this one was started.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The time that has passed since then.
    pub fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.started)
    }
}

/// The time of the wall clock, in milliseconds since 1970.
pub fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time since the machine was started, with that during which it slept.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// The id that Linux gives to each start of the machine; `None` where it cannot be read.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_string()).filter(|id| !id.is_empty())
}

/// Created by systemd-timesyncd once it has set the clock, and touched whenever it compares it (systemd-timesyncd.service(8)).
pub const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// How far that may be from the time that the clock shows: it is compared every 34 minutes at least (`PollIntervalMaxSec`).
const SYNCHRONIZED_MAX: Duration = Duration::from_secs(7200);

/// Whether the clock was set from the network of late, and shows that time. `false` where nobody knows.
pub fn is_synchronized(wall: SystemTime) -> bool {
    let touched = std::fs::metadata(SYNCHRONIZED).and_then(|file| file.modified());
    touched.is_ok_and(|touched| is_near(touched, wall))
}

fn is_near(touched: SystemTime, wall: SystemTime) -> bool {
    let apart = wall.duration_since(touched).unwrap_or_else(|earlier| earlier.duration());
    apart <= SYNCHRONIZED_MAX
}

/// When this binary was built; `None` if the build did not know the time. No clock that shows an earlier time is right.
pub fn built_at() -> Option<SystemTime> {
    let seconds = BUILT_AT_SECONDS.parse().ok().filter(|seconds| *seconds > 0)?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A point in time of the years 0 to 9999; one outside of them is taken for the first or the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcTime {
    year: i64,
    month: i64,
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    millisecond_of_day: i64,
}

impl UtcTime {
    /// Now.
    pub fn now() -> UtcTime {
        UtcTime::of(SystemTime::now())
    }

    /// The date and time of a point in time, in the Gregorian calendar.
    pub fn of(at: SystemTime) -> UtcTime {
        let milliseconds = match at.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(LAST),
            // A part of a millisecond before the epoch belongs to the millisecond before it.
            Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000_000))
                .map_or(FIRST, |milliseconds| -milliseconds),
        };
        let milliseconds = milliseconds.clamp(FIRST, LAST);
        let days = milliseconds.div_euclid(MILLISECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        UtcTime {
            year,
            month,
            day,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or_default(),
            millisecond_of_day: milliseconds.rem_euclid(MILLISECONDS_PER_DAY),
        }
    }

    fn hours_minutes_seconds(self) -> (i64, i64, i64) {
        let seconds = self.millisecond_of_day / 1000;
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// After RFC 3339, with milliseconds: `2026-11-23T05:43:00.123Z`.
    pub fn rfc3339(self) -> String {
        let UtcTime { year, month, day, .. } = self;
        let (hour, minute, second) = self.hours_minutes_seconds();
        let millisecond = self.millisecond_of_day % 1000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }

    /// For the name of a file: `20261123T054300Z`.
    pub fn for_file_name(self) -> String {
        let UtcTime { year, month, day, .. } = self;
        let (hour, minute, second) = self.hours_minutes_seconds();
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// Counts months, from that of the year 0.
    pub fn month_number(self) -> i64 {
        self.year * 12 + self.month - 1
    }

    /// For the header `Date` of HTTP (RFC 9110, 5.6.7): `Mon, 23 Nov 2026 05:43:00 GMT`.
    pub fn http_date(self) -> String {
        let UtcTime { year, month, day, .. } = self;
        let (hour, minute, second) = self.hours_minutes_seconds();
        let weekday = WEEKDAYS.get(self.weekday).copied().unwrap_or_default();
        let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month));
        let month = month.copied().unwrap_or_default();
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }
}

/// The day counted from 1970-01-01. (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`)
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01. (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`)
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_from_the_network_is_near_the_time_of_that() {
        let now = SystemTime::now();
        assert!(is_near(now, now + Duration::from_secs(7000)) && is_near(now, now));
        let year = Duration::from_secs(365 * 86_400);
        assert!(!is_near(now, now + year) && !is_near(now, now - year));
    }

    fn at(seconds: i64) -> UtcTime {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        UtcTime::of(match seconds < 0 {
            true => UNIX_EPOCH - distance,
            false => UNIX_EPOCH + distance,
        })
    }

    #[test]
    fn a_time_has_its_three_forms() {
        let time = UtcTime::of(UNIX_EPOCH + Duration::from_millis(1_795_412_580_123));
        assert_eq!(time.rfc3339(), "2026-11-23T05:43:00.123Z");
        assert_eq!(time.for_file_name(), "20261123T054300Z");
        assert_eq!(time.http_date(), "Mon, 23 Nov 2026 05:43:00 GMT");
        assert_eq!(at(951_782_400).rfc3339(), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn a_clock_before_1970_or_after_9999_has_a_time_too() {
        assert_eq!(at(-1).rfc3339(), "1969-12-31T23:59:59.000Z");
        assert_eq!(at(-1).http_date(), "Wed, 31 Dec 1969 23:59:59 GMT");
        let before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(UtcTime::of(before).rfc3339(), "1969-12-31T23:59:59.999Z");
        assert_eq!(at(-2_208_988_800).rfc3339(), "1900-01-01T00:00:00.000Z");
        assert_eq!(at(i64::MIN / 4).rfc3339(), "0000-01-01T00:00:00.000Z");
        assert_eq!(at(i64::MAX / 4).rfc3339(), "9999-12-31T23:59:59.999Z");
        assert_eq!(at(LAST / 1000).rfc3339(), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn dates_are_those_of_the_library_in_its_range() {
        for day in (0..2_900_000).step_by(97) {
            let time = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_661);
            let expected = humantime::format_rfc3339_millis(time).to_string();
            assert_eq!(UtcTime::of(time).rfc3339(), expected);
        }
    }
}
