use std::borrow::Cow;

use super::*;
use crate::statistics::day::DayPositions;
use crate::store::{ClosedPosition, Moment, RowHasher};

const DAY: Day = Day(20_000);

/// Id, connection, symbol and profit.
const POSITIONS: [(i64, &str, &str, f64); 6] = [
    (1, "a", "BTC", 10.0),
    (2, "a", "ETH", -4.0),
    (3, "a", "BTC", -8.0),
    (4, "a", "ETH", 0.0),
    (5, "b", "BTC", 0.1),
    (6, "b", "BTC", 0.2),
];

/// The positions with these ids, and nothing stored.
fn day(ids: impl Fn(i64) -> bool) -> ComparedDay {
    let (mut positions, mut hasher) = (DayPositions::default(), RowHasher::default());
    for (id, connection_id, symbol, profit) in POSITIONS.into_iter().filter(|row| ids(row.0)) {
        let closed_at = Moment((i64::from(DAY.0) * 86_400 + id) * 1_000_000);
        let position = ClosedPosition {
            id,
            connection_id: connection_id.into(),
            symbol: symbol.into(),
            indication_type: Cow::Borrowed(if id % 2 == 0 { "move" } else { "auto" }),
            strategy_type: "main".into(),
            closed_at,
            day: DAY,
            opened_at: None,
            profit,
        };
        positions.add(&position, &position.hash(&mut hasher));
    }
    let present = positions.digests().into_iter().map(|(id, digest)| (id.to_string(), digest));
    ComparedDay {
        day: DAY,
        present: present.collect(),
        calculated: positions.calculate(DAY),
        stored: Vec::new(),
        last_final_day: None,
    }
}

/// The rows of a day as they are stored once they are written.
fn stored(day: &ComparedDay) -> Vec<StoredStatistics> {
    let rows = day.calculated.iter().zip(1..);
    let stored = rows.map(|((key, values), id)| StoredStatistics {
        table: key.table,
        id,
        key: Some(key.clone()),
        day: DAY,
        connection_id: key.connection_id.clone(),
        values: values.clone(),
        left: None,
    });
    stored.collect()
}

/// A day with these positions, and the statistics of all.
fn after(ids: impl Fn(i64) -> bool) -> ComparedDay {
    ComparedDay { stored: stored(&day(|_| true)), ..day(ids) }
}

fn daily<'d>(day: &'d mut ComparedDay, connection_id: &str) -> &'d mut StoredStatistics {
    let mut rows = day.stored.iter_mut();
    rows.find(|row| is_daily(row) && row.connection_id == connection_id).unwrap()
}

/// Says that retention has left these positions of connection `a`.
fn begin(day: &mut ComparedDay) {
    let left = day.present.get("a").copied().unwrap_or_default();
    let digest = Some(left.to_string());
    daily(day, "a").left = Some(SourceLeft { rows: i64::try_from(left.rows).ok(), digest });
}

fn found(day: &ComparedDay) -> Vec<(DifferenceKind, StatisticsTable, String, Vec<&'static str>)> {
    let found = day.differences().into_iter();
    found
        .map(|found| (found.kind, found.key.table, found.key.connection_id, found.columns))
        .collect()
}

fn written(day: &ComparedDay) -> (usize, usize, usize) {
    let changes = day.changes();
    let sum = |count: fn(&StatisticsChange) -> usize| changes.iter().map(count).sum();
    (
        sum(|change| change.inserted.len()),
        sum(|change| change.updated.len()),
        sum(|change| change.deleted.len()),
    )
}

#[test]
fn what_is_as_it_is_calculated_is_not_written() {
    assert_eq!((found(&after(|_| true)), written(&after(|_| true))), (Vec::new(), (0, 0, 0)));
}

#[test]
fn missing_rows_are_inserted_by_connection_and_that_of_the_day_last() {
    let day = day(|_| true);
    assert_eq!(written(&day), (9, 0, 0));
    let changes = day.changes();
    assert_eq!(changes.len(), 2);
    for change in changes {
        let tables: Vec<_> = change.inserted.iter().map(|row| row.key.table).collect();
        let of_day = tables.iter().filter(|table| **table == StatisticsTable::Daily).count();
        assert_eq!((tables.last(), of_day), (Some(&StatisticsTable::Daily), 1));
        assert_eq!(change.expected, None);
    }
    assert!(day.differences().iter().all(|found| found.kind == DifferenceKind::Missing));
}

#[test]
fn altered_and_surplus_rows_are_named_and_put_right() {
    let mut day = after(|_| true);
    let row = daily(&mut day, "b");
    (row.values.total, row.values.wins) = (Some(-0.5), None);
    let twice = StoredStatistics { id: 99, ..day.stored[0].clone() };
    day.stored.push(twice);
    assert_eq!(
        found(&day),
        [
            (
                DifferenceKind::Altered,
                StatisticsTable::Daily,
                "b".into(),
                vec!["winning_trades", "total_pnl"]
            ),
            (DifferenceKind::Surplus, StatisticsTable::Indication, "a".into(), vec![]),
        ]
    );
    assert_eq!(written(&day), (0, 1, 1));
    assert!(day.differences().iter().all(|found| !found.is_final));
}

#[test]
fn a_position_that_is_deleted_by_somebody_is_no_longer_counted() {
    let day = after(|id| id != 2);
    // The group of ETH and move has one less; that of connection b is as it was.
    assert!(day.finals().is_empty());
    assert_eq!(written(&day), (0, 3, 0));
    // All of them.
    assert_eq!(written(&after(|_| false)), (0, 0, 9));
}

#[test]
fn statistics_that_retention_has_begun_with_are_not_written() {
    let mut day = after(|id| id > 3);
    begin(&mut day);
    assert_eq!((found(&day), written(&day)), (Vec::new(), (0, 0, 0)));
    let part =
        PartlyDeleted { day: DAY, connection_id: "a".into(), deleted: 3, rest: RestState::Equal };
    assert_eq!(day.partly_deleted(), [part]);
    day.present.insert("a".into(), day.present["b"]);
    assert_eq!(day.partly_deleted()[0].rest, RestState::Late(1));
    day.present.remove("a");
    assert_eq!(day.partly_deleted()[0].rest, RestState::Altered);
    // As long as all are there, each bit is compared.
    let mut day = after(|_| true);
    begin(&mut day);
    daily(&mut day, "a").values.mean_hold_seconds = Some(1.0);
    let altered = found(&day);
    assert_eq!((altered.len(), &altered[0].3), (1, &vec!["avg_hold_duration_seconds"]));
    assert_eq!(written(&day), (0, 0, 0));
}

#[test]
fn nonsense_in_what_is_left_is_final_and_said() {
    for (rows, digest) in [(None, Some("x")), (Some(-3), None), (Some(5), Some("")), (None, None)] {
        let mut day = after(|id| id > 4);
        daily(&mut day, "a").left = Some(SourceLeft { rows, digest: digest.map(str::to_string) });
        let columns = vec!["source_rows_left", "source_digest_left"];
        let expected = (DifferenceKind::Altered, StatisticsTable::Daily, "a".into(), columns);
        assert_eq!(found(&day), [expected]);
        assert_eq!(written(&day), (0, 0, 0));
    }
}

#[test]
fn statistics_without_their_row_of_the_day_are_kept_where_positions_are_gone() {
    let mut day = after(|id| id == 1 || id > 4);
    day.stored.retain(|row| !is_daily(row) || row.connection_id != "a");
    assert_eq!(day.partly_deleted()[0].rest, RestState::Unrecorded);
    assert_eq!(day.partly_deleted()[0].deleted, 3);
    assert_eq!(
        found(&day),
        [(DifferenceKind::Missing, StatisticsTable::Daily, "a".into(), vec![])]
    );
    assert_eq!(written(&day), (0, 0, 0));
    // With all positions it is calculated.
    let mut day = after(|_| true);
    day.stored.retain(|row| !is_daily(row));
    assert_eq!(written(&day), (2, 0, 0));
}

#[test]
fn up_to_the_last_day_of_deletions_no_position_may_be_missing() {
    let with = |last_final_day| ComparedDay { last_final_day, ..after(|id| id > 1) };
    assert_eq!(written(&with(Some(Day(DAY.0 - 1)))), (0, 3, 0));
    let kept = with(Some(DAY));
    assert_eq!((written(&kept), found(&kept)), ((0, 0, 0), Vec::new()));
    assert_eq!(kept.partly_deleted()[0].rest, RestState::Unrecorded);
    // An edit of one table is put right where the two others say that all positions are there.
    let mut day = ComparedDay { last_final_day: Some(DAY), ..after(|_| true) };
    daily(&mut day, "a").values.source_rows = Some(7);
    assert_eq!(written(&day), (0, 1, 0));
}

#[test]
fn a_row_whose_day_cannot_be_read_is_kept_once_positions_were_deleted() {
    let mut day = after(|_| true);
    let mut strange = day.stored[0].clone();
    (strange.id, strange.key, strange.day) = (99, None, UNREADABLE_DAY);
    day.stored.push(strange);
    assert_eq!(written(&day), (0, 0, 1));
    day.last_final_day = Some(Day(0));
    assert_eq!((written(&day), found(&day).len()), ((0, 0, 0), 1));
    day.stored[0].key = None;
    day.stored[0].values.source_digest = None;
    assert_eq!(written(&day), (1, 0, 0), "one that is not of cts is left alone");
}

#[test]
fn edits_show_without_positions_where_rows_do_not_agree() {
    type Edit = fn(&mut StatisticsValues);
    let edits: [(Edit, &str); 12] = [
        (|values| values.trades = Some(5), "total_trades"),
        (|values| values.wins = Some(2), "winning_trades"),
        (|values| values.losses = None, "losing_trades"),
        (|values| values.best = Some(10.5), "max_profit"),
        (|values| values.worst = Some(-8.5), "max_loss"),
        (|values| values.total = Some(-2.0 + 1e-9), "total_pnl"),
        (|values| values.win_rate = Some(0.25 + 1e-16), "win_rate"),
        (|values| values.profit_factor = None, "profit_factor"),
        (|values| values.max_drawdown = Some(12.5), "max_drawdown"),
        (|values| values.highest_sum = Some(f64::NAN), "highest_sum"),
        (|values| values.mean_hold_seconds = Some(1.0), "avg_hold_duration_seconds"),
        (|values| values.source_digest = Some("0".repeat(64)), "source_digest"),
    ];
    for (edit, column) in edits {
        let mut day = after(|id| id > 4);
        begin(&mut day);
        edit(&mut daily(&mut day, "a").values);
        let differences = day.differences();
        let is_named = differences.iter().any(|found| found.columns.contains(&column));
        // 0.25 + 1e-16 is 0.25 plus one unit in its last place.
        assert!(is_named, "{column}: {differences:?}");
        assert!(differences.iter().all(|found| found.is_final), "{column}");
        assert_eq!(written(&day), (0, 0, 0));
    }
    // Both sums of a group, so that it agrees with itself.
    let mut day = after(|id| id > 4);
    begin(&mut day);
    let group = day.stored.iter_mut().find(|row| row.connection_id == "a").unwrap();
    assert_eq!(group.table, StatisticsTable::Indication);
    group.values.source_digest = Some("0".repeat(64));
    assert_eq!(
        found(&day).iter().map(|found| (found.0, found.1)).collect::<Vec<_>>(),
        [
            (DifferenceKind::Unequal, StatisticsTable::Indication),
            (DifferenceKind::Unequal, StatisticsTable::Strategy)
        ]
    );
}

#[test]
fn large_days_are_written_in_parts_that_say_what_was_read() {
    let mut day = after(|_| false);
    let row = day.stored[0].clone();
    for id in 100..100 + 2 * CHANGE_ROWS_MAX as i64 {
        day.stored.push(StoredStatistics { id, ..row.clone() });
    }
    let of_a: Vec<_> =
        day.changes().into_iter().filter(|change| change.connection_id == "a").collect();
    assert_eq!(of_a.len(), 3);
    let expected = daily(&mut day, "a").values.source_rows;
    for change in &of_a {
        assert_eq!(change.expected.as_ref().map(|source| source.0), Some(expected));
        assert!(change_rows(change) <= CHANGE_ROWS_MAX);
    }
    let last = of_a.last().unwrap().deleted.last().unwrap();
    assert_eq!(last.0, StatisticsTable::Daily);
}
