use super::*;

const DAY: Duration = Duration::from_secs(SECONDS_PER_DAY);

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(&format!("{text}:00Z")).unwrap()
}

/// Good backups made at these times, in this order.
fn made(times: &[&str]) -> Vec<DatedBackup> {
    let dated = |(at, text): (usize, &&str)| DatedBackup {
        serial: at as u64 + 1,
        made_at: Some(time(text)),
        is_good: true,
        is_tried: false,
    };
    times.iter().enumerate().map(dated).collect()
}

fn rules(text: &str) -> KeepRules {
    text.parse().unwrap()
}

/// The names of the reasons of each.
fn reasons(backups: &[DatedBackup], text: &str) -> Vec<String> {
    let names = |reasons: &Vec<KeepReason>| {
        reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>().join(" ")
    };
    keep_reasons(backups, rules(text)).iter().map(names).collect()
}

#[test]
fn the_last_one_of_each_day_week_and_month_is_kept() {
    let backups = made(&[
        "2026-10-30T03:00",
        "2026-11-01T03:00",
        "2026-11-22T03:00",
        "2026-11-23T03:00",
        "2026-11-27T03:00",
        "2026-11-28T03:00",
        "2026-11-28T15:00",
    ]);
    assert_eq!(
        reasons(&backups, "daily=2,weekly=3,monthly=2"),
        ["monthly", "weekly", "weekly", "", "daily", "", "newest daily weekly monthly"]
    );
    // Without a rule for them, the newest is kept all the same.
    let only = made(&["2026-11-28T15:00", "2026-11-28T16:00"]);
    assert_eq!(reasons(&only, "monthly=1"), ["", "newest monthly"]);
}

#[test]
fn days_without_a_backup_do_not_count() {
    let backups = made(&["2025-01-01T00:00", "2025-01-02T00:00", "2026-11-28T00:00"]);
    assert_eq!(reasons(&backups, "daily=3"), ["daily", "daily", "newest daily"]);
}

#[test]
fn the_order_is_that_of_the_serial_numbers_whatever_the_clock_said() {
    // The clock was a year behind for one backup, then a year ahead, then right again.
    let backups = made(&[
        "2026-11-26T03:00",
        "2026-11-27T03:00",
        "2025-11-28T03:00",
        "2027-11-29T03:00",
        "2026-11-28T03:00",
    ]);
    assert_eq!(
        reasons(&backups, "daily=7,weekly=4,monthly=6"),
        [
            "daily",
            "daily",
            "daily weekly monthly",
            "daily weekly monthly",
            "newest daily weekly monthly"
        ]
    );
    let mut shuffled = backups.clone();
    shuffled.reverse();
    let mut expected = reasons(&backups, "daily=2");
    expected.reverse();
    assert_eq!(reasons(&shuffled, "daily=2"), expected);
    assert_eq!(expected, ["newest daily", "daily", "", "", ""]);
}

#[test]
fn a_failed_drill_takes_no_place_of_a_good_one() {
    let mut backups =
        made(&["2026-11-25T03:00", "2026-11-26T03:00", "2026-11-27T03:00", "2026-11-28T03:00"]);
    backups[1].is_good = false;
    backups[3].is_good = false;
    assert_eq!(reasons(&backups, "daily=2"), ["daily", "", "newest daily", "failed drill"]);
    for backup in &mut backups {
        backup.is_good = false;
    }
    assert_eq!(reasons(&backups, "daily=2"), ["", "", "", "failed drill"]);
}

#[test]
fn one_whose_time_cannot_be_read_is_kept() {
    let mut backups = made(&["2026-11-27T03:00", "2026-11-28T03:00"]);
    backups[0].made_at = None;
    assert_eq!(reasons(&backups, "daily=1"), ["unknown time", "newest daily"]);
}

#[test]
fn weeks_begin_on_monday_and_times_before_1970_have_days_too() {
    let number = |reason, text: &str| Period::new(reason, 1).number(time(text));
    let week = |text| number(KeepReason::Weekly, text);
    assert_eq!(week("2026-11-23T00:00"), week("2026-11-29T23:59"));
    assert_ne!(week("2026-11-22T23:59"), week("2026-11-23T00:00"));
    let day = |before: Duration| days_since_1970(UNIX_EPOCH - before);
    assert_eq!([day(Duration::ZERO), day(Duration::from_secs(1)), day(DAY)], [0, -1, -1]);
    assert_eq!(day(DAY + Duration::from_secs(1)), -2);
}

#[test]
fn until_when_one_is_kept_follows_from_the_backups_to_come() {
    let backups = made(&["2026-11-26T03:00", "2026-11-27T03:00", "2026-11-28T03:00"]);
    let until = |text: &str, every| {
        let until = kept_until(&backups, rules(text), time("2026-11-29T03:00"), every);
        until
            .into_iter()
            .map(|until| until.map(|at| UtcTime::of(at).rfc3339()[..10].to_string()))
            .collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_string());
    assert_eq!(until("daily=3", DAY), [some("2026-11-29"), some("2026-11-30"), some("2026-12-01")]);
    // The last one of a week and of a month is kept for longer; one that is not kept has no end.
    assert_eq!(until("daily=1", DAY), [None, None, some("2026-11-29")]);
    assert_eq!(until("weekly=2", DAY), [None, None, some("2026-11-29")]);
    // 28 November is a Saturday; with one backup every second day it is the last one of its week.
    assert_eq!(
        kept_until(&backups, rules("weekly=2"), time("2026-11-30T03:00"), 2 * DAY)[2]
            .map(|at| UtcTime::of(at).rfc3339()),
        some("2026-12-08T03:00:00.000Z")
    );
    // Several a day.
    let hourly =
        kept_until(&backups, rules("daily=2"), time("2026-11-28T04:00"), Duration::from_secs(60));
    assert_eq!(hourly, [None, Some(time("2026-11-29T00:00")), Some(time("2026-11-28T04:00"))]);
}
