//! Measurements, their comparison and their goals. A ratio is cts divided by the baseline, computed
//! for each round; the median of the rounds is reported, so that a disturbance of the machine affects
//! both sides alike.

use std::time::Instant;

use serde::Serialize;

use crate::Result;

#[derive(Clone, Copy, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p99: Option<f64>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// For the median of cts alone.
    OursAtMost(f64),
    OursP99AtMost(f64),
}

/// A line of the table.
#[derive(Clone, Serialize)]
pub struct Line {
    pub what: String,
    /// Rows of the large tables together.
    pub rows: u64,
    pub unit: &'static str,
    pub ours: Spread,
    pub baseline: Option<Spread>,
    pub ratio: Option<f64>,
    pub goal: Option<Goal>,
    pub reached: Option<bool>,
}

impl From<f64> for Spread {
    fn from(p50: f64) -> Self {
        Self { p50, p99: None }
    }
}

impl Spread {
    pub fn of(samples: &[f64]) -> Self {
        Self { p50: quantile(samples, 0.5), p99: Some(quantile(samples, 0.99)) }
    }
}

impl Line {
    pub fn new(what: impl Into<String>, rows: u64, unit: &'static str, ours: Spread) -> Self {
        let what = what.into();
        Self { what, rows, unit, ours, baseline: None, ratio: None, goal: None, reached: None }
    }

    pub fn beside(self, baseline: Spread) -> Self {
        let ratio = (baseline.p50 != 0.0).then(|| self.ours.p50 / baseline.p50);
        Self { baseline: Some(baseline), ratio, ..self }
    }

    /// Sets the goal; to be called last.
    pub fn goal(self, goal: Goal) -> Self {
        let reached = match goal {
            Goal::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Goal::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Goal::OursAtMost(most) => Some(self.ours.p50 <= most),
            Goal::OursP99AtMost(most) => self.ours.p99.map(|p99| p99 <= most),
        };
        Self { goal: Some(goal), reached, ..self }
    }
}

/// The samples of each side, one list per round.
pub struct Rounds(Vec<Vec<Vec<f64>>>);

impl Rounds {
    /// Samples of each side, one list per round, taken before.
    #[cfg(feature = "postgres")]
    pub fn of(samples: [Vec<Vec<f64>>; 2]) -> Self {
        Self(samples.into())
    }

    /// Measures the sides in alternation, every other round in reverse order. `measure` receives the
    /// round and the side; side 0 is cts.
    pub fn take(
        many: usize,
        sides: usize,
        mut measure: impl FnMut(usize, usize) -> Result<Vec<f64>>,
    ) -> Result<Self> {
        let mut samples = vec![Vec::new(); sides];
        for round in 0..many {
            for turn in 0..sides {
                let side = if round % 2 == 0 { turn } else { sides - 1 - turn };
                samples[side].push(measure(round, side)?);
            }
        }
        Ok(Self(samples))
    }

    /// cts compared with another side.
    pub fn line(
        &self,
        other: usize,
        what: impl Into<String>,
        rows: u64,
        unit: &'static str,
    ) -> Line {
        let (ours, theirs) = (&self.0[0], &self.0[other]);
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| quantile(ours, 0.5) / quantile(theirs, 0.5))
            .collect();
        let mut line = Line::new(what, rows, unit, spread(ours)).beside(spread(theirs));
        line.ratio = Some(quantile(&ratios, 0.5));
        line
    }
}

/// One sample per round is a rate; its 99th percentile has no meaning.
fn spread(rounds: &[Vec<f64>]) -> Spread {
    let samples = rounds.concat();
    if samples.len() == rounds.len() {
        quantile(&samples, 0.5).into()
    } else {
        Spread::of(&samples)
    }
}

/// The quantile of the samples; the median of an even number is the upper of the middle two.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((sorted.len() as f64 * part) as usize).min(last)).copied().unwrap_or(f64::NAN)
}

/// The duration, in microseconds.
pub fn microseconds<T>(act: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
