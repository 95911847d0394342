"""Calculates the measures of closed positions with programs of others, and compares them with what cts says.

Usage: measures.py PACKAGES DATABASE [STATS] [--only CONNECTION]

DATABASE is a SQLite file whose rows of statistics_daily are compared, each with the rows of pseudo_positions of its
connection and day. STATS is a file with what `cts stats --json --by connection` has printed, or -; its groups are
compared with all rows of their connections. Prints JSON: the number of histories, and what differs, as texts.

- freqtrade's data/metrics.py: expectancy and drawdown. calculate_max_drawdown takes the least value of
  calculate_underwater; it is called for each group of STATS, and calculate_underwater for some days at once, since both
  take milliseconds.
- quantstats: profit factor; for the groups of STATS the win rate too. Its win rate leaves out draws, which count in ours.
- Python's own exact sum of doubles (math.fsum).
"""

import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import sqlite3
import sys
import types
import warnings

TOLERANCE = 1e-9
# Histories in a chain.
CHAINED = 10


def load(packages):
    """The functions that calculate: drawdown, expectancy, profit factor and win rate."""
    sys.path.insert(0, packages)
    import pandas

    # quantstats draws and downloads too, with packages that none of its measures needs.
    for name in ("scipy", "scipy.stats", "yfinance"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["scipy.stats"].linregress = sys.modules["scipy.stats"].norm = None
    package = types.ModuleType("quantstats")
    package.__path__ = [os.path.join(packages, "quantstats")]
    sys.modules["quantstats"] = package
    import quantstats.stats

    spec = importlib.util.spec_from_file_location("metrics", os.path.join(packages, "freqtrade_metrics.py"))
    metrics = importlib.util.module_from_spec(spec)
    sys.modules["metrics"] = metrics
    spec.loader.exec_module(metrics)
    return pandas, metrics, quantstats.stats


def profit_factors(found):
    """Of all histories at once: a column for each. None without a loss."""
    pandas, _, quantstats = PACKAGES
    table = pandas.DataFrame([profits for _, profits, *_ in found]).transpose()
    factors = quantstats.profit_factor(table, prepare_returns=False)
    return [factor if any(profit < 0 for profit in item[1]) else None for item, factor in zip(found, factors)]


def drawdowns(chain):
    """Of some histories in one: a row behind each lifts the running sum to its highest point, from which the next one
    falls as another does from 0."""
    pandas, metrics, _ = PACKAGES
    profits, ends = [], []
    for history in chain:
        sums = list(itertools.accumulate(history))
        profits += [*history, max(0, *sums) - sums[-1]]
        ends.append(len(profits))
    trades = pandas.DataFrame({"close_date": range(len(profits)), "profit_abs": profits})
    falls = metrics.calculate_underwater(trades, value_col="profit_abs")["drawdown"].tolist()
    # The first row is a zero that freqtrade puts there.
    return [-min(falls[begin + 1:end]) for begin, end in zip([0, *ends], ends)]


def calculated(profits, drawdown):
    """The other measures of a history, in the order of closing."""
    pandas, metrics, quantstats = PACKAGES
    trades = pandas.DataFrame({"close_date": range(len(profits)), "profit_abs": profits})
    wins = sum(profit > 0 for profit in profits)
    losses = sum(profit < 0 for profit in profits)
    measures = {
        "trades": len(profits),
        "wins": wins,
        "losses": losses,
        "winRate": wins / len(profits),
        "profit": math.fsum(profits),
        "sumOfWins": math.fsum(profit for profit in profits if profit > 0),
        "sumOfLosses": math.fsum(profit for profit in profits if profit < 0),
        "best": max(profits),
        "worst": min(profits),
        "drawdown": drawdown,
        "expectancy": metrics.calculate_expectancy(trades)[0],
    }
    if drawdown is None:
        measures["drawdown"] = metrics.calculate_max_drawdown(trades).drawdown_abs
        decided = wins + losses
        rate = quantstats.win_rate(trades["profit_abs"], prepare_returns=False) if decided else 0
        measures["winRate"] = rate * decided / len(profits)
    return measures


def differences_of(chain):
    """The differences of some histories, all of them of days, or else one."""
    is_whole = chain[0][0][3]
    falls = [None] if is_whole else drawdowns([profits for (_, profits, _, _), _ in chain])
    return [text for item, fall in zip(chain, falls) for text in difference(item, fall)]


def difference(item, drawdown):
    (name, profits, said, _), factor = item
    expected = {**calculated(profits, drawdown), "profitFactor": factor}
    texts = []
    for key, value in expected.items():
        other = said.get(key)
        if value is None or other is None:
            is_same = value is other
        elif isinstance(value, int):
            is_same = value == other
        else:
            is_same = math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if not is_same:
            texts.append(f"{name}: {key} is {other!r}, and calculated {value!r}")
    return texts


def histories(database, stats, only):
    """Name, profits and what cts says, of each connection and day, and of each connection."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    days, whole = {}, {}
    rows = connection.execute(
        "SELECT connection_id, substr(closed_at, 1, 10), coalesce(pnl, profit_loss) FROM pseudo_positions"
        " WHERE closed_at IS NOT NULL AND status IN ('closed', 'main_closed', 'stopped', 'archived')"
        " ORDER BY closed_at, id"
    )
    for name, day, profit in rows:
        days.setdefault((name, day), []).append(profit)
        whole.setdefault(name, []).append(profit)
    keys = ("trades", "wins", "losses", "profit", "sumOfWins", "sumOfLosses", "best", "worst", "drawdown",
            "profitFactor", "winRate")
    rows = connection.execute(
        "SELECT connection_id, trade_date, total_trades, winning_trades, losing_trades, total_pnl, total_profit,"
        " total_loss, max_profit, max_loss, max_drawdown, profit_factor, win_rate FROM statistics_daily"
    )
    said = {(row[0], row[1]): dict(zip(keys, row[2:])) for row in rows}
    for values in said.values():
        values["expectancy"] = values["profit"] / values["trades"]
    found = [(f"{name} on {day}", profits, said.pop((name, day), {}), False) for (name, day), profits in days.items()
             if only in (None, name)]
    if stats != "-":
        with open(stats, encoding="utf-8") as file:
            groups = {group["connection"]: group for group in json.load(file)["groups"]}
        found += [(name, profits, groups.pop(name, {}), True) for name, profits in whole.items()
                  if only in (None, name)]
        said.update(groups)
    left = [str(key) for key in said] if only is None else []
    return found, [f"{name}: there is no such position" for name in left]


if __name__ == "__main__":
    words = sys.argv[1:]
    only = words.pop() if "--only" in words else None
    words = [word for word in words if word != "--only"]
    warnings.simplefilter("ignore")
    PACKAGES = load(words[0])
    found, differences = histories(words[1], words[2] if len(words) > 2 else "-", only)
    # Histories of about the same size are chained, so that none is lost in the rounding of another.
    found.sort(key=lambda item: (item[3], max(map(abs, item[1]))))
    chains = itertools.groupby(enumerate(zip(found, profit_factors(found))),
                               lambda item: item[0] if item[1][0][3] else -1 - item[0] // CHAINED)
    chains = [[item for _, item in chain] for _, chain in chains]
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        for texts in pool.imap_unordered(differences_of, chains, chunksize=10):
            differences += texts
    json.dump({"histories": len(found), "differences": differences}, sys.stdout)
