//! What the service has seen of the database over the last day, in memory: one sample a minute. It ends with the process. The
//! samples are placed by a clock that no correction of the machine's clock moves; minutes in which nothing was seen are
//! empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::figures::FigureWatch;
use super::report::Report;
use super::verdict::Status;
use crate::system::clock::SteadyClock;

/// The time between two samples.
const INTERVAL: Duration = Duration::from_secs(60);
/// How many samples are kept: those of a day.
const SAMPLES_MAX: usize = 24 * 60;
/// With more samples, two are shown as one: a day is drawn in no more points, and its JSON stays below 64 KiB.
const POINTS_MAX: usize = SAMPLES_MAX / 2;

/// What was seen in one minute. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The size of the database, without its WAL.
    pub size_bytes: Option<u64>,
    /// The size of the WAL.
    pub wal_size_bytes: Option<u64>,
    /// What is free on the disk of the database.
    pub disk_free_bytes: Option<u64>,
    /// The longest time that the database took to answer.
    pub response_seconds: Option<f32>,
    /// The worst status.
    pub status: Option<Status>,
}

impl Sample {
    /// Adds a later sample of the same time.
    fn add(&mut self, later: Sample) {
        self.size_bytes = later.size_bytes.or(self.size_bytes);
        self.wal_size_bytes = later.wal_size_bytes.or(self.wal_size_bytes);
        self.disk_free_bytes = later.disk_free_bytes.or(self.disk_free_bytes);
        let longest = [self.response_seconds, later.response_seconds].into_iter().flatten();
        self.response_seconds = longest.reduce(f32::max);
        let both = [self.status, later.status].into_iter().flatten();
        self.status = both.max_by_key(|status| match status {
            Status::Healthy => 0,
            Status::Degraded => 1,
            Status::Initializing => 2,
            Status::Unhealthy => 3,
        });
    }
}

/// The history of a running service; every thread has a clone.
#[derive(Clone)]
pub struct History {
    clock: SteadyClock,
    figures: FigureWatch,
    samples: Arc<Mutex<Samples>>,
}

/// The samples, at most [`SAMPLES_MAX`]. The memory grows as they come.
#[derive(Default)]
struct Samples {
    kept: VecDeque<Sample>,
    /// The minute of the last one, counted from the start of the clock.
    last_minute: u64,
}

/// The history at one moment, in points of equal distance.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPoints {
    /// The distance of the points.
    pub interval: Duration,
    /// The points, the oldest first.
    pub points: Vec<Sample>,
}

impl History {
    /// A history that begins now. The sizes in it are among these figures.
    pub fn start(figures: FigureWatch) -> History {
        History { clock: SteadyClock::start(), figures, samples: Arc::default() }
    }

    /// When it began, by the machine's clock of that moment.
    pub fn started_at(&self) -> SystemTime {
        self.clock.started_at()
    }

    /// Notes what was seen now.
    pub fn note(&self, report: &Report) {
        let sample = report.sample(&self.figures.current());
        self.samples().note(minute(self.clock.elapsed()), sample);
    }

    /// The points up to now.
    pub fn points(&self) -> HistoryPoints {
        self.samples().points(minute(self.clock.elapsed()))
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn minute(elapsed: Duration) -> u64 {
    elapsed.as_secs() / INTERVAL.as_secs()
}

impl Samples {
    fn note(&mut self, minute: u64, sample: Sample) {
        match self.kept.back_mut() {
            Some(last) if minute <= self.last_minute => return last.add(sample),
            None => {}
            Some(_) => {
                let empty = minute - self.last_minute - 1;
                // After more than a day everything before it is gone.
                let empty = usize::try_from(empty).unwrap_or(SAMPLES_MAX).min(SAMPLES_MAX);
                (0..empty).for_each(|_| self.push(Sample::default()));
            }
        }
        self.push(sample);
        self.last_minute = minute;
    }

    fn push(&mut self, sample: Sample) {
        if self.kept.len() == SAMPLES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(sample);
    }

    fn points(&self, now: u64) -> HistoryPoints {
        let mut points: Vec<Sample> = self.kept.iter().copied().collect();
        if !points.is_empty() {
            // Minutes that are over, and in which nothing was seen.
            let empty = now.saturating_sub(self.last_minute).saturating_sub(1);
            let empty = usize::try_from(empty).unwrap_or(SAMPLES_MAX).min(SAMPLES_MAX);
            points.extend(std::iter::repeat_n(Sample::default(), empty));
            points.drain(..points.len().saturating_sub(SAMPLES_MAX));
        }
        match points.len() > POINTS_MAX {
            true => HistoryPoints { interval: INTERVAL * 2, points: in_pairs(&points) },
            false => HistoryPoints { interval: INTERVAL, points },
        }
    }
}

/// The points of twice the distance. The newest one is of two minutes too.
fn in_pairs(points: &[Sample]) -> Vec<Sample> {
    let pairs = points.rchunks(2).rev();
    let joined = pairs.map(|pair| {
        let mut sum = Sample::default();
        pair.iter().for_each(|sample| sum.add(*sample));
        sum
    });
    joined.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn sample(size_bytes: u64, status: Status) -> Sample {
        let (response_seconds, status) = (Some(0.001), Some(status));
        Sample { size_bytes: Some(size_bytes), response_seconds, status, ..Sample::default() }
    }

    /// The history of more than a day in which every figure is as long as it may be on a large machine.
    pub fn full() -> HistoryPoints {
        let mut samples = Samples::default();
        (0..2000).for_each(|minute| {
            samples.note(
                minute,
                Sample {
                    size_bytes: Some(987_654_321_012),
                    wal_size_bytes: Some(268_435_456),
                    disk_free_bytes: Some(1_987_654_321_012),
                    response_seconds: Some(0.001_234),
                    status: Some(Status::Initializing),
                },
            );
        });
        assert_eq!(samples.kept.len(), SAMPLES_MAX);
        assert!(samples.kept.capacity() * size_of::<Sample>() <= 256 << 10);
        samples.points(1999)
    }

    #[test]
    fn a_full_history_takes_at_most_256_kib_also_while_it_grows() {
        // While a VecDeque grows, it holds the memory of before and twice as much.
        let largest = SAMPLES_MAX.next_power_of_two() * size_of::<Sample>();
        assert!(largest + largest / 2 <= 256 << 10, "{largest}");
        let full = full();
        assert_eq!((full.points.len(), full.interval), (POINTS_MAX, INTERVAL * 2));
        assert!(VecDeque::<Sample>::default().capacity() == 0, "nothing is allocated beforehand");
    }

    #[test]
    fn minutes_in_which_nothing_was_seen_are_empty() {
        let mut samples = Samples::default();
        assert!(samples.points(7).points.is_empty());
        samples.note(7, sample(1, Status::Healthy));
        samples.note(7, sample(2, Status::Unhealthy));
        samples.note(7, Sample { status: Some(Status::Healthy), ..Sample::default() });
        samples.note(10, sample(3, Status::Healthy));
        // A clock that goes back, which this one does not, loses nothing.
        samples.note(9, sample(4, Status::Healthy));
        let empty = Sample::default();
        let expected =
            [sample(2, Status::Unhealthy), empty, empty, sample(4, Status::Healthy), empty, empty];
        assert_eq!(samples.points(13).points, expected);
        samples.note(5000, sample(5, Status::Degraded));
        assert_eq!(samples.kept.len(), SAMPLES_MAX);
        let day_later = samples.points(5000);
        assert_eq!(day_later.points.last(), Some(&sample(5, Status::Degraded)));
        assert_eq!(day_later.points.first(), Some(&empty));
        assert!(samples.points(9000).points.iter().all(|point| *point == empty));
    }
}
