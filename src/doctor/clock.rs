//! The clock. Times in the database, certificates and the orders of trading programs hang on it;
//! a box without a battery starts in the past.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::program;
use crate::health::render::timestamp;
use crate::store::finding::{Finding, Group};

/// The seconds since 1970 when this binary was built.
const BUILT: &str = env!("CTS_BUILT");
/// Made by systemd-timesyncd when it has set the clock (systemd-timesyncd.service(8)).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// Looks at the clock.
pub fn examine() -> Vec<Finding> {
    let built = BUILT.parse().map(Duration::from_secs).unwrap_or_default();
    let told =
        || program::output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    let is_synchronised = if Path::new(SYNCHRONIZED).exists() {
        Some(true)
    } else {
        told().and_then(|text| answer(&text))
    };
    vec![time(SystemTime::now(), SystemTime::UNIX_EPOCH + built), synchronisation(is_synchronised)]
}

/// What `timedatectl` says.
fn answer(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn time(now: SystemTime, built: SystemTime) -> Finding {
    let shown = timestamp(now);
    if now < built {
        let what = format!("{shown} is before {}, when cts was built", timestamp(built));
        return Finding::bad(Group::Clock, "time", what)
            .remedy("timedatectl set-ntp true, or set it: timedatectl set-time …");
    }
    Finding::good(Group::Clock, "time", shown)
}

fn synchronisation(is_synchronised: Option<bool>) -> Finding {
    let name = "synchronised";
    match is_synchronised {
        Some(true) => Finding::good(Group::Clock, name, "yes"),
        Some(false) => Finding::attention(Group::Clock, name, "no: it may go wrong unseen")
            .remedy("timedatectl set-ntp true (systemd-timesyncd), or install chrony"),
        None => {
            let what = "not looked at: neither systemd-timesyncd nor timedatectl tells it here";
            Finding::skipped(Group::Clock, name, what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    #[test]
    fn a_clock_before_the_build_is_bad() {
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(time(built, built).grade, Grade::Good);
        let seen = time(SystemTime::UNIX_EPOCH, built);
        assert_eq!(seen.grade, Grade::Bad);
        assert!(seen.what.starts_with("1970-01-01T00:00:00.000Z is before 2023-11-14"), "{seen:?}");
    }

    #[test]
    fn the_build_has_a_time() {
        let built: u64 = BUILT.parse().unwrap();
        assert!(built > 1_600_000_000, "{built}");
        assert_eq!(examine()[0].grade, Grade::Good);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_for_a_person_and_an_unknown_one_is_no_fault() {
        let grade = |said: &str| synchronisation(answer(said)).grade;
        assert_eq!(grade("yes\n"), Grade::Good);
        assert_eq!(grade("no\n"), Grade::Attention);
        assert_eq!(grade(""), Grade::Skipped);
    }
}
