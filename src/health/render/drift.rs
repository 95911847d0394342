//! The JSON of `cts verify`.

use serde_json::{Value, json};

use cts_schema::catalog::{Alteration, CounterFault, CounterState, Drift, Object};
use cts_schema::constraint_exception::ConstraintException;

/// The drift and the constraint exceptions as JSON.
pub fn drift_json(drift: &Drift, exceptions: &[ConstraintException]) -> String {
    let object = |object: &Object| match object {
        Object::Table(table) => json!({ "kind": "table", "table": table }),
        Object::Column(table, name) => json!({ "kind": "column", "table": table, "name": name }),
        Object::Index(table, name) => json!({ "kind": "index", "table": table, "name": name }),
    };
    let altered = |alteration: &Alteration| {
        let Alteration { object: what, expected, found, .. } = alteration;
        let remedy = alteration.remedy();
        json!({ "object": object(what), "expected": expected, "found": found, "remedy": remedy })
    };
    let mut json = json!({
        "drift": !drift.is_none(),
        "missing": drift.missing.iter().map(object).collect::<Vec<_>>(),
        "altered": drift.altered.iter().map(altered).collect::<Vec<_>>(),
        "extra": drift.extra.iter().map(object).collect::<Vec<_>>(),
        "relaxed": exceptions.iter().map(exception_json).collect::<Vec<_>>(),
    });
    if let Some(keys) = json.as_object_mut().filter(|_| !drift.counters.is_empty()) {
        keys.insert("counters".into(), drift.counters.iter().map(counter_json).collect());
    }
    json.to_string()
}

fn counter_json(fault: &CounterFault) -> Value {
    let CounterFault { table, column, state } = fault;
    match state {
        CounterState::Behind { next, used } => {
            json!({ "table": table, "column": column, "next": next, "used": used })
        }
        CounterState::Exhausted { last } => {
            json!({ "table": table, "column": column, "next": null, "used": last })
        }
    }
}

/// A constraint exception as JSON.
pub fn exception_json(exception: &ConstraintException) -> Value {
    let ConstraintException { table, rule, rows } = exception;
    json!({ "table": table, "rule": rule.record_name(), "object": rule.object(), "rows": rows })
}
