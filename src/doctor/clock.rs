//! The clock. Times in the database, the validity of certificates and the orders of trading programs depend
//! on it; a machine without a battery starts in the past.

use std::path::Path;
use std::time::SystemTime;

use super::program;
use crate::health::render::timestamp;
use crate::store::finding::{Finding, Group};
use crate::system::clock::{SYNCHRONIZED, built_at};

/// Examines the clock.
pub fn examine() -> Vec<Finding> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let is_synchronised = if Path::new(SYNCHRONIZED).exists() {
        Some(true)
    } else {
        program::output("timedatectl", &arguments).and_then(|text| yes_or_no(&text))
    };
    vec![time(SystemTime::now(), built_at()), synchronisation(is_synchronised)]
}

/// The output of `timedatectl`.
fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn time(now: SystemTime, built_at: Option<SystemTime>) -> Finding {
    let shown = timestamp(now);
    if let Some(built_at) = built_at.filter(|built_at| now < *built_at) {
        let what = format!("{shown} is before {}, when cts was built", timestamp(built_at));
        return Finding::bad(Group::Clock, "time", what)
            .remedy("timedatectl set-ntp true, or set it: timedatectl set-time …");
    }
    Finding::good(Group::Clock, "time", shown)
}

fn synchronisation(is_synchronised: Option<bool>) -> Finding {
    let name = "synchronised";
    match is_synchronised {
        Some(true) => Finding::good(Group::Clock, name, "yes"),
        Some(false) => Finding::attention(Group::Clock, name, "no: nothing corrects the clock")
            .remedy("timedatectl set-ntp true (systemd-timesyncd), or install chrony"),
        None => {
            let what = "not examined: neither systemd-timesyncd nor timedatectl reports it";
            Finding::skipped(Group::Clock, name, what)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::finding::Grade;

    #[test]
    fn a_clock_before_the_build_is_bad() {
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(time(built, Some(built)).grade, Grade::Good);
        let found = time(SystemTime::UNIX_EPOCH, Some(built));
        assert_eq!(found.grade, Grade::Bad);
        assert!(
            found.what.starts_with("1970-01-01T00:00:00.000Z is before 2023-11-14"),
            "{found:?}"
        );
    }

    #[test]
    fn the_build_has_a_time() {
        let built = built_at().unwrap();
        assert!(built > SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
        assert_eq!(examine()[0].grade, Grade::Good);
    }

    #[test]
    fn a_clock_that_is_not_synchronised_needs_attention_and_an_unknown_one_is_not_examined() {
        let grade = |output: &str| synchronisation(yes_or_no(output)).grade;
        assert_eq!(grade("yes\n"), Grade::Good);
        assert_eq!(grade("no\n"), Grade::Attention);
        assert_eq!(grade(""), Grade::Skipped);
    }
}
