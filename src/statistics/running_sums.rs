//! The running sum of profits over time, kept at the end of each slot (an hour or a day), and drawn as a line of a few
//! characters.

use crate::store::{Day, Moment};

/// Characters of a drawn line.
pub const LINE_CHARACTERS: usize = 12;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ',', '-', '~', '=', '*', '#'];
const MICROSECONDS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// The length of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Slot {
    /// The slot of a moment.
    pub fn of(self, moment: Moment) -> i64 {
        let hour = moment.0.div_euclid(MICROSECONDS_PER_HOUR);
        match self {
            Slot::Hour => hour,
            Slot::Day => hour.div_euclid(HOURS_PER_DAY),
        }
    }

    /// The first and the last slot of a day.
    pub fn of_day(self, day: Day) -> (i64, i64) {
        let day = i64::from(day.0);
        match self {
            Slot::Hour => (day * HOURS_PER_DAY, day * HOURS_PER_DAY + HOURS_PER_DAY - 1),
            Slot::Day => (day, day),
        }
    }
}

/// The running sum at the end of each slot in which it changed; 0 before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningSums {
    sums: Vec<(i64, f64)>,
}

impl RunningSums {
    /// Sets the sum at the end of a slot, which is the last one so far or a later one.
    pub fn set(&mut self, slot: i64, sum: f64) {
        match self.sums.last_mut() {
            Some(last) if last.0 == slot => last.1 = sum,
            _ => self.sums.push((slot, sum)),
        }
    }

    /// The first and the last slot in which the sum changed.
    pub fn span(&self) -> Option<(i64, i64)> {
        Some((self.sums.first()?.0, self.sums.last()?.0))
    }

    /// The sum at up to [`LINE_CHARACTERS`] moments of a span, at even distances, the last one at its end.
    pub fn samples(&self, (first, last): (i64, i64)) -> Vec<f64> {
        let slots = usize::try_from(last - first + 1).unwrap_or(1);
        let count = slots.clamp(1, LINE_CHARACTERS);
        let end = |sample: usize| first + (slots * (sample + 1) / count) as i64 - 1;
        (0..count).map(|sample| self.at(end(sample))).collect()
    }

    /// The sum at the end of a slot.
    fn at(&self, slot: i64) -> f64 {
        let later = self.sums.partition_point(|(of, _)| *of <= slot);
        later.checked_sub(1).and_then(|at| self.sums.get(at)).map_or(0.0, |(_, sum)| *sum)
    }
}

/// Whether a line may be drawn with blocks, or with ASCII characters only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// `▁▂▃▄▅▆▇█`
    Blocks,
    /// `_.,-~=*#`
    Ascii,
}

/// The numbers as a line: the lowest character for the least of them, or for 0 if that is less, the highest one for the
/// greatest, or for 0; `?` for one beyond the largest number.
pub fn line(samples: &[f64], style: LineStyle) -> String {
    let characters = match style {
        LineStyle::Blocks => BLOCKS,
        LineStyle::Ascii => ASCII,
    };
    let finite = || samples.iter().copied().filter(|sample| sample.is_finite());
    let (least, greatest) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    let character = |sample: &f64| {
        if !sample.is_finite() {
            return '?';
        }
        // Half of each, so that the difference of two large numbers stays a number.
        let share = (sample / 2.0 - least / 2.0) / (greatest / 2.0 - least / 2.0);
        let level = (share * (characters.len() - 1) as f64).round();
        // All are 0: the level is no number, and becomes 0.
        characters.get(level as usize).copied().unwrap_or(' ')
    };
    samples.iter().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(sums: &[(i64, f64)]) -> RunningSums {
        let mut running = RunningSums::default();
        sums.iter().for_each(|(slot, sum)| running.set(*slot, *sum));
        running
    }

    #[test]
    fn the_sum_at_the_end_of_a_slot_is_kept_until_the_next_change() {
        let running = sums(&[(10, 1.0), (10, 2.0), (13, -1.0)]);
        assert_eq!(running.span(), Some((10, 13)));
        assert_eq!(running.samples((9, 14)), [0.0, 2.0, 2.0, 2.0, -1.0, -1.0]);
        assert_eq!(RunningSums::default().span(), None);
        assert_eq!(RunningSums::default().samples((1, 2)), [0.0, 0.0]);
    }

    #[test]
    fn a_long_span_is_sampled_evenly_and_to_its_end() {
        let all: Vec<(i64, f64)> = (0..30).map(|slot| (slot, slot as f64)).collect();
        let samples = sums(&all).samples((0, 29));
        assert_eq!(samples, [1.0, 4.0, 6.0, 9.0, 11.0, 14.0, 16.0, 19.0, 21.0, 24.0, 26.0, 29.0]);
    }

    #[test]
    fn a_line_shows_zero_the_least_and_the_greatest() {
        assert_eq!(line(&[0.0, 7.0, 3.0], LineStyle::Blocks), "▁█▄");
        assert_eq!(line(&[-7.0, -1.0, 0.0], LineStyle::Ascii), "_*#");
        assert_eq!(line(&[5.0], LineStyle::Ascii), "#");
        assert_eq!(line(&[-5.0], LineStyle::Ascii), "_");
        assert_eq!(line(&[0.0, 0.0], LineStyle::Blocks), "▁▁");
        assert_eq!(line(&[-f64::MAX, f64::MAX], LineStyle::Blocks), "▁█");
        assert_eq!(line(&[], LineStyle::Ascii), "");
        assert_eq!(line(&[1.0, f64::INFINITY, f64::NAN], LineStyle::Blocks), "█??");
    }

    #[test]
    fn a_moment_before_1970_has_its_slot() {
        assert_eq!(Slot::Hour.of(Moment(-1)), -1);
        assert_eq!(Slot::Day.of(Moment(-1)), -1);
        assert_eq!(Slot::Hour.of_day(Day(-1)), (-24, -1));
        assert_eq!(Slot::Day.of(Moment(MICROSECONDS_PER_HOUR * 24)), 1);
    }
}
