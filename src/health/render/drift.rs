//! The JSON of `cts verify`.

use serde_json::{Value, json};

use cts_schema::catalog::{Alteration, CounterFault, CounterState, Drift, Object};
use cts_schema::constraint_exception::ConstraintException;

/// The drift and the constraint exceptions as JSON.
pub fn drift_json(drift: &Drift, exceptions: &[ConstraintException]) -> String {
    let mut json = json!({
        "drift": !drift.is_none(),
        "missing": drift.missing.iter().map(object_json).collect::<Vec<_>>(),
        "altered": drift.altered.iter().map(altered_json).collect::<Vec<_>>(),
        "extra": drift.extra.iter().map(object_json).collect::<Vec<_>>(),
        "relaxed": exceptions.iter().map(exception_json).collect::<Vec<_>>(),
    });
    if let Some(keys) = json.as_object_mut().filter(|_| !drift.counters.is_empty()) {
        keys.insert("counters".into(), drift.counters.iter().map(counter_json).collect());
    }
    if let Some(keys) = json.as_object_mut().filter(|_| !drift.accepted.is_empty()) {
        keys.insert("accepted".into(), drift.accepted.iter().map(altered_json).collect());
    }
    json.to_string()
}

fn object_json(object: &Object) -> Value {
    match object {
        Object::Table(table) => json!({ "kind": "table", "table": table }),
        Object::Column(table, name) => json!({ "kind": "column", "table": table, "name": name }),
        Object::Index(table, name) => json!({ "kind": "index", "table": table, "name": name }),
    }
}

/// A difference as JSON.
pub fn altered_json(alteration: &Alteration) -> Value {
    let Alteration { object, expected, found, .. } = alteration;
    let remedy = alteration.remedy();
    json!({ "object": object_json(object), "expected": expected, "found": found, "remedy": remedy })
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
