//! Expressions as they are declared, and as PostgreSQL returns them.

use super::*;

/// Expressions as declared, and as PostgreSQL 15 returns them.
const PAIRS: &[(&str, &str)] = &[
    ("'active'", "'active'::text"),
    ("'it''s'", "'it''s'::text"),
    ("'12'", "'12'::text"),
    (r"'a\b'", r"'a\b'::text"),
    ("-1", "'-1'::integer"),
    ("-1.5", "'-1.5'::numeric"),
    ("5000000000", "'5000000000'::bigint"),
    ("1.50", "1.50"),
    ("now()", "CURRENT_TIMESTAMP"),
    ("(NOW() AT TIME ZONE 'utc')", "(now() AT TIME ZONE 'utc'::text)"),
    ("interval '1 day'", "'1 day'::interval"),
    ("current_date", "CURRENT_DATE"),
    ("clock_timestamp()::text", "(clock_timestamp())::text"),
    ("(case when true then 1 else 2 end)", "\nCASE\n    WHEN true THEN 1\n    ELSE 2\nEND"),
    ("status = 'active'", "(status = 'active'::text)"),
    (
        "status = 'closed' AND closed_at IS NOT NULL",
        "((status = 'closed'::text) AND (closed_at IS NOT NULL))",
    ),
    ("is_enabled and is_active", "(is_enabled AND is_active)"),
    ("status IN ('active', 'open')", "(status = ANY (ARRAY['active'::text, 'open'::text]))"),
    (
        "d in ('a','b')",
        "(((d)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
    ),
    ("c not in ('p','q')", "((c <> ALL (ARRAY['p'::text, 'q'::text])))"),
    ("a between 1 and 5", "(((a >= 1) AND (a <= 5)))"),
    ("s not between 'a' and 'b'", "(((s < 'a'::text) OR (s > 'b'::text)))"),
    ("b > 0", "((b > (0)::double precision))"),
    (
        "c in ('x','y') or (c = 'z' and a > 0)",
        "(((c = ANY (ARRAY['x'::text, 'y'::text])) OR ((c = 'z'::text) AND (a > 0))))",
    ),
    (
        "g like 'a%' and not (g = 'b' or a is null)",
        "(((g ~~ 'a%'::text) AND (NOT ((g = 'b'::text) OR (a IS NULL)))))",
    ),
    ("h is distinct from 3", "((h IS DISTINCT FROM (3)::numeric))"),
    ("n is not true or not n", "(((n IS NOT TRUE) OR (NOT n)))"),
    ("char_length(r) > 0 and r in ('one')", "(((char_length(r) > 0) AND (r = 'one'::text)))"),
    ("(v collate \"C\") > 'a'", "(((v COLLATE \"C\") > 'a'::text))"),
    ("\"Wide Name\" > 0", "((\"Wide Name\" > 0))"),
    ("z ilike '%x' or z !~ 'q'", "(((z ~~* '%x'::text) OR (z !~ 'q'::text)))"),
    (
        "(a = 'x' or a = 'y') and a <> 'z'",
        "((((a = 'x'::text) OR (a = 'y'::text)) AND (a <> 'z'::text)))",
    ),
    (
        "a = 'x' and b = 'y' or b = 'z'",
        "((((a = 'x'::text) AND (b = 'y'::text)) OR (b = 'z'::text)))",
    ),
    (
        "-c < 3 and - 4 < c and a || b <> 'x'",
        "((((- c) < 3) AND ('-4'::integer < c) AND ((a || b) <> 'x'::text)))",
    ),
];

/// Defaults as declared, as PostgreSQL 15 returns them, and the type of the column.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("'{}'", "'{}'::text[]", "TEXT[]"),
    ("'{}'", "'{}'::jsonb", "JSONB"),
    ("'active'", "'active'::character varying", "CHARACTER VARYING(20)"),
    ("0", "(0)::numeric(20,8)", "NUMERIC(20,8)"),
    ("0", "(0)::text", "TEXT"),
    ("FALSE", "((false)::integer)::smallint", "SMALLINT"),
    ("FALSE", "(false)::integer", "INTEGER"),
    ("CURRENT_TIMESTAMP", "(CURRENT_TIMESTAMP)::date", "DATE"),
    ("CURRENT_TIMESTAMP", "now()", "TIMESTAMPTZ"),
    ("NULL", "NULL::character varying", "TEXT"),
    ("0", "(0)::double precision", "DOUBLE PRECISION"),
    ("1.0", "'1.0'::double precision", "DOUBLE PRECISION"),
    (
        "floor(random() * 9007199254740991)::bigint",
        "((floor((random() * ('9007199254740991'::bigint)::double precision)))::bigint)::text",
        "TEXT",
    ),
];

#[test]
fn a_declared_default_equals_what_the_server_returns() {
    for (declared, given, data_type) in DEFAULTS {
        let [declared, given] = [declared, given].map(|sql| canonical_default(sql, data_type));
        assert_eq!(declared, given);
        assert_eq!(canonical_default(&given, data_type), given);
    }
}

#[test]
fn defaults_that_give_another_value_stay_different() {
    for (declared, given, data_type) in [
        ("'spot'", "'spot'::character varying(2)", "TEXT"),
        ("'spot'", "'spot '::bpchar", "TEXT"),
        ("'spot'", "('spot'::character varying(2))::text", "TEXT"),
        ("CURRENT_TIMESTAMP", "(now())::date", "TIMESTAMPTZ"),
        ("CURRENT_TIMESTAMP", "(now())::timestamp(0) with time zone", "TIMESTAMPTZ"),
        ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(0)", "TIMESTAMPTZ"),
        ("CURRENT_TIMESTAMP", "(CURRENT_TIMESTAMP)::text", "TIMESTAMPTZ"),
        ("CURRENT_TIMESTAMP", "other.now()", "TIMESTAMPTZ"),
        ("4", "(4.4)::integer", "DOUBLE PRECISION"),
        ("0.1", "(0.1)::real", "DOUBLE PRECISION"),
        ("70000", "(70000)::smallint", "INTEGER"),
        ("TRUE", "(1)::boolean", "BOOLEAN"),
        ("FALSE", "'false'::text", "TEXT"),
    ] {
        let [declared, given] = [declared, given].map(|sql| canonical_default(sql, data_type));
        assert_ne!(declared, given);
    }
}

#[test]
fn a_declared_expression_equals_what_the_server_returns() {
    for (declared, given) in PAIRS {
        assert_eq!(canonical(declared), canonical(given), "{declared}");
    }
}

#[test]
fn the_canonical_form_is_its_own_canonical_form() {
    assert_eq!(canonical("(status = ANY (ARRAY['a'::text, 'b'::text]))"), "status IN ('a', 'b')");
    assert_eq!(
        canonical("((a = 'x'::text) AND ((b IS NULL) OR c))"),
        "a = 'x' AND (b IS NULL OR c)"
    );
    assert_eq!(canonical("(false)"), "FALSE");
    for (declared, _) in PAIRS {
        let once = canonical(declared);
        assert_eq!(canonical(&once), once);
    }
}

#[test]
fn expressions_of_different_meaning_stay_different() {
    for (one, other) in [
        ("a AND (b OR c)", "(a AND b) OR c"),
        ("NOT (a AND b)", "(NOT a) AND b"),
        ("a - (b - c)", "a - b - c"),
        ("a IN ('x', 'y')", "a NOT IN ('x', 'y')"),
        ("'Active'", "'active'"),
        ("'a  b'", "'a b'"),
        ("\"A\" = 1", "a = 1"),
        ("12", "'12'"),
        ("'true'", "true"),
        ("a = ALL (ARRAY['x', 'y'])", "a = ANY (ARRAY['x', 'y'])"),
        ("a > 0 IS NULL", "a > (0 IS NULL)"),
        ("status = 'active'", "(status = ('active'::character varying(3))::text)"),
        ("status = 'active'", "((status)::character varying(3))::text = 'active'::text"),
        ("s IN ('ab', 'c')", "(s = ANY (ARRAY[('ab'::character varying(1))::text, 'c'::text]))"),
        ("s IN ('ab', 'c')", "(s = ANY ((ARRAY['ab'::text, 'c'::text])::character varying(1)[]))"),
        ("s IN ('a', 'b')", "(s OPERATOR(other.=) ANY (ARRAY['a'::text, 'b'::text]))"),
        ("a::timestamp(3) with time zone <> b", "a <> b"),
        ("a > b", "(a)::integer > b"),
        ("a > 1.5", "(a > ('1.5'::numeric)::integer)"),
        ("-a::text", "(-a)::text"),
        ("\"F\"(a)", "(\"F\"(a))::text"),
    ] {
        assert_ne!(canonical(one), canonical(other), "{one}");
    }
}

#[test]
fn any_text_is_accepted_without_a_panic() {
    let doubled = "(".repeat(60) + "a" + &" BETWEEN 1 AND 2)".repeat(60);
    let texts = [
        "",
        "'open",
        "\"open",
        "/* open",
        "E'\\",
        "a = ",
        "(((",
        ")",
        "a::",
        "ANY (ARRAY[",
        "x = ANY (ARRAY['a'",
        "ü = 'ß' AND \u{0}",
        "CASE WHEN",
        "1e+ .5. ::::",
        "NOT NOT",
        "a IN ()",
        &"(".repeat(100_000),
        &"NOT ".repeat(100_000),
        &"- ".repeat(100_000),
        &"a AND ".repeat(100_000),
        &" BETWEEN 1 AND 2".repeat(1_000),
        &format!("a{}", " BETWEEN 1 AND 2".repeat(1_000)),
        &"CASE WHEN a THEN ".repeat(10_000),
        &"f(".repeat(10_000),
        &doubled,
    ];
    for text in texts {
        let once = canonical(text);
        assert!(once.len() <= 8 * text.len() + LENGTH_MAX_BYTES, "{text:.40}");
    }
    let words: Vec<String> =
        PAIRS.iter().flat_map(|(a, b)| [a.to_string(), b.to_string()]).collect();
    for text in &words {
        for (at, _) in text.char_indices() {
            canonical(&text[..at]);
            canonical(&text[at..]);
        }
    }
}
