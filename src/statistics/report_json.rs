//! A [`TradeReport`] as JSON. Amounts are numbers with all their digits; what is not known is null.

use serde_json::{Value, json};

use super::report::{Grouping, TradeGroup, TradeReport};

/// The groups, each with its name under that of the grouping.
pub fn json_groups(report: &TradeReport, grouping: Grouping) -> Value {
    let groups = report.groups.iter().map(|group| {
        let mut json = json_group(group);
        json[grouping.name()] = json!(group.name);
        json
    });
    groups.collect()
}

/// The measures of a group.
pub fn json_group(group: &TradeGroup) -> Value {
    let measures = &group.measures;
    json!({
        "trades": measures.trades,
        "wins": measures.wins,
        "losses": measures.losses,
        "draws": measures.draws(),
        "winRate": measures.win_rate(),
        "profit": measures.profit,
        "sumOfWins": measures.sum_of_wins,
        "sumOfLosses": measures.sum_of_losses,
        "profitFactor": measures.profit_factor(),
        "expectancy": measures.expectancy(),
        "drawdown": measures.drawdown,
        "drawdownIsApproximate": group.drawdown_is_approximate,
        "best": measures.best,
        "worst": measures.worst,
        "meanHoldingSeconds": measures.mean_holding_seconds,
        "fees": group.fees,
        "runningSum": group.running_sum,
    })
}
