//! The measures of closed trades: counts, sums, drawdown, best and worst, mean holding time. They are computed from the
//! trades in order of closing, and from the measures of parts that follow one another. Pure: no database, no clock. The
//! same trades in the same order give the same bits, whatever store they come from.

/// A sum of numbers whose rounding errors are added up beside it (Neumaier).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CompensatedSum {
    sum: f64,
    compensation: f64,
}

impl CompensatedSum {
    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        let sum = self.sum + number;
        self.compensation += match self.sum.abs() >= number.abs() {
            true => (self.sum - sum) + number,
            false => (number - sum) + self.sum,
        };
        self.sum = sum;
    }

    /// The sum with one more number.
    pub fn plus(mut self, number: f64) -> f64 {
        self.add(number);
        self.value()
    }

    /// The sum.
    pub fn value(self) -> f64 {
        // A sum beyond the largest number has no compensation that is a number.
        if self.sum.is_finite() { self.sum + self.compensation } else { self.sum }
    }
}

/// The measures of closed trades, in the order in which they were closed. Money is in quote currency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// The number of trades.
    pub trades: u64,
    /// Trades with a profit above 0.
    pub wins: u64,
    /// Trades with a profit below 0.
    pub losses: u64,
    /// The sum of all profits.
    pub profit: f64,
    /// The sum of the profits above 0.
    pub sum_of_wins: f64,
    /// The sum of the profits below 0; 0 or less.
    pub sum_of_losses: f64,
    /// The largest fall of the running sum of profits from its highest point, which is 0 at the start; 0 or more.
    pub drawdown: f64,
    /// The highest point of the running sum; 0 or more.
    pub highest_sum: f64,
    /// The lowest point of the running sum; 0 or less.
    pub lowest_sum: f64,
    /// The largest profit of one trade; `None` without a trade.
    pub best: Option<f64>,
    /// The smallest profit of one trade; `None` without a trade.
    pub worst: Option<f64>,
    /// The trades whose holding time is known.
    pub held_trades: u64,
    /// The mean holding time of these; `None` without one.
    pub mean_holding_seconds: Option<f64>,
}

impl Measures {
    /// Trades with a profit of 0.
    pub fn draws(&self) -> u64 {
        self.trades.saturating_sub(self.wins).saturating_sub(self.losses)
    }

    /// The part of all trades that are wins, 0 to 1; `None` without a trade.
    pub fn win_rate(&self) -> Option<f64> {
        quotient(self.wins as f64, self.trades)
    }

    /// The sum of wins divided by the absolute sum of losses; `None` without a loss.
    pub fn profit_factor(&self) -> Option<f64> {
        (self.losses > 0).then(|| self.sum_of_wins / self.sum_of_losses.abs())
    }

    /// The mean profit of a trade; `None` without a trade.
    pub fn expectancy(&self) -> Option<f64> {
        quotient(self.profit, self.trades)
    }
}

fn quotient(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

/// Computes [`Measures`], trade by trade, in order of closing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measurement {
    /// All but the sums and the mean, which are kept below.
    measures: Measures,
    profit: CompensatedSum,
    sum_of_wins: CompensatedSum,
    sum_of_losses: CompensatedSum,
    holding_seconds: CompensatedSum,
}

impl Measurement {
    /// Adds a trade that was closed after those before it. Its profit is a finite number.
    pub fn add(&mut self, profit: f64, holding_seconds: Option<f64>) {
        // No zero is negative, so that equal trades have equal bits.
        let profit = profit + 0.0;
        let (gain, loss) = (profit.max(0.0), profit.min(0.0));
        self.append(&Measures {
            trades: 1,
            wins: u64::from(profit > 0.0),
            losses: u64::from(profit < 0.0),
            profit,
            sum_of_wins: gain,
            sum_of_losses: loss,
            drawdown: -loss + 0.0,
            highest_sum: gain,
            lowest_sum: loss,
            best: Some(profit),
            worst: Some(profit),
            held_trades: u64::from(holding_seconds.is_some()),
            mean_holding_seconds: holding_seconds,
        });
    }

    /// Appends trades that were all closed after those before them, by their measures. Counts are exact, sums as exact as
    /// those that are given, and the drawdown is that of all trades.
    pub fn append(&mut self, later: &Measures) {
        let (highest, lowest) =
            (self.profit.plus(later.highest_sum), self.profit.plus(later.lowest_sum));
        self.profit.add(later.profit);
        self.sum_of_wins.add(later.sum_of_wins);
        self.sum_of_losses.add(later.sum_of_losses);
        let all = &mut self.measures;
        all.trades += later.trades;
        all.wins += later.wins;
        all.losses += later.losses;
        // From the highest point of those before to the lowest of the later ones.
        let fall = all.highest_sum - lowest;
        all.drawdown = all.drawdown.max(later.drawdown).max(fall);
        all.highest_sum = all.highest_sum.max(highest);
        all.lowest_sum = all.lowest_sum.min(lowest);
        all.best = either(all.best, later.best, f64::max);
        all.worst = either(all.worst, later.worst, f64::min);
        if let Some(mean) = later.mean_holding_seconds {
            all.held_trades += later.held_trades;
            self.holding_seconds.add(mean * later.held_trades as f64);
        }
    }

    /// The running sum of the profits.
    pub fn running_sum(&self) -> f64 {
        self.profit.value()
    }

    /// The measures of what was added.
    pub fn measures(&self) -> Measures {
        Measures {
            profit: self.profit.value(),
            sum_of_wins: self.sum_of_wins.value(),
            sum_of_losses: self.sum_of_losses.value(),
            mean_holding_seconds: quotient(self.holding_seconds.value(), self.measures.held_trades),
            ..self.measures
        }
    }
}

/// The better one of two values, or the one that is there.
fn either(a: Option<f64>, b: Option<f64>, better: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(better(a, b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(profits: &[f64]) -> Measures {
        let mut measurement = Measurement::default();
        profits.iter().for_each(|profit| measurement.add(*profit, None));
        measurement.measures()
    }

    #[test]
    fn a_history_is_measured_exactly() {
        let mut measurement = Measurement::default();
        for (profit, holding_seconds) in [
            (10.0, Some(60.0)),
            (-4.0, None),
            (0.0, Some(30.0)),
            (-8.0, Some(0.0)),
            (3.5, Some(90.0)),
            (-0.5, Some(20.0)),
        ] {
            measurement.add(profit, holding_seconds);
        }
        assert_eq!(measurement.running_sum(), 1.0);
        let measures = measurement.measures();
        let expected = Measures {
            trades: 6,
            wins: 2,
            losses: 3,
            profit: 1.0,
            sum_of_wins: 13.5,
            sum_of_losses: -12.5,
            drawdown: 12.0,
            highest_sum: 10.0,
            lowest_sum: -2.0,
            best: Some(10.0),
            worst: Some(-8.0),
            held_trades: 5,
            mean_holding_seconds: Some(40.0),
        };
        assert_eq!(measures, expected);
        assert_eq!(measures.draws(), 1);
        assert_eq!(measures.win_rate(), Some(2.0 / 6.0));
        assert_eq!(measures.profit_factor(), Some(1.08));
        assert_eq!(measures.expectancy(), Some(1.0 / 6.0));
    }

    #[test]
    fn without_a_trade_nothing_is_known() {
        let measures = Measurement::default().measures();
        assert_eq!(measures, Measures::default());
        assert_eq!((measures.win_rate(), measures.profit_factor()), (None, None));
        assert_eq!((measures.expectancy(), measures.mean_holding_seconds), (None, None));
    }

    #[test]
    fn one_trade_is_its_own_best_and_worst() {
        for (profit, drawdown, profit_factor) in
            [(2.5, 0.0, None), (-2.5, 2.5, Some(0.0)), (0.0, 0.0, None)]
        {
            let measures = measured(&[profit]);
            assert_eq!((measures.best, measures.worst), (Some(profit), Some(profit)));
            assert_eq!(measures.drawdown, drawdown);
            assert_eq!(measures.profit_factor(), profit_factor);
            assert_eq!(measures.expectancy(), Some(profit));
        }
    }

    #[test]
    fn losses_only_fall_from_zero() {
        let measures = measured(&[-1.0, -2.0, -4.0]);
        assert_eq!((measures.drawdown, measures.lowest_sum), (7.0, -7.0));
        assert_eq!((measures.highest_sum, measures.profit_factor()), (0.0, Some(0.0)));
    }

    #[test]
    fn what_a_plain_sum_loses_is_kept() {
        let profits = [1e16, 1.0, -1e16, 1.0, -3.0];
        assert_ne!(profits.iter().sum::<f64>(), -1.0);
        let measures = measured(&profits);
        assert_eq!(measures.profit, -1.0);
        // The running sum is 1 after the third trade, 2 after the fourth and -1 after the fifth.
        assert_eq!((measures.lowest_sum, measures.drawdown), (-1.0, 1e16));
        let tenths = measured(&[0.1; 10]);
        assert_eq!((tenths.profit, tenths.expectancy()), (1.0, Some(0.1)));
    }

    #[test]
    fn a_negative_zero_is_a_draw_and_leaves_no_bit() {
        let (negative, zero) = (measured(&[-0.0, -0.0]), measured(&[0.0, 0.0]));
        assert_eq!((negative.draws(), negative.wins, negative.losses), (2, 0, 0));
        assert_eq!(format!("{negative:?}"), format!("{zero:?}"));
        assert!(!format!("{negative:?}").contains("-0.0"));
        assert!(!format!("{:?}", measured(&[1.0])).contains("-0.0"));
    }

    #[test]
    fn a_sum_beyond_the_largest_number_stays_a_number_or_infinite() {
        let measures = measured(&[f64::MAX, f64::MAX, -1.0]);
        assert_eq!(measures.profit, f64::INFINITY);
        assert_eq!((measures.sum_of_losses, measures.trades), (-1.0, 3));
        assert!(!measures.drawdown.is_nan());
    }

    #[test]
    fn parts_that_follow_one_another_are_joined() {
        // All sums of these are exact, so that the join must be equal to the whole.
        let profits: Vec<f64> = (0_u32..60).map(|i| f64::from(i * 7919 % 97) - 48.0).collect();
        for parts in [1, 7, 20, 59, 60] {
            let (mut whole, mut joined) = (Measurement::default(), Measurement::default());
            for part in profits.chunks(parts) {
                let mut own = Measurement::default();
                for profit in part {
                    let holding_seconds = (*profit > 0.0).then_some(8.0);
                    own.add(*profit, holding_seconds);
                    whole.add(*profit, holding_seconds);
                }
                joined.append(&own.measures());
            }
            assert_eq!(joined.measures(), whole.measures(), "{parts}");
            joined.append(&Measures::default());
            assert_eq!(joined.measures(), whole.measures(), "{parts}");
        }
    }
}
