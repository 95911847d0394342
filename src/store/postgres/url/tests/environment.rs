//! The variables of libpq that cts does not read.

use super::*;
use crate::store::postgres::url::environment::NOT_READ;

#[test]
fn a_variable_of_libpq_that_is_not_read_is_named_where_the_url_leaves_it_open() {
    let warned = |url: &str, variables: &[(&str, &str)]| {
        let target = read_with(url, variables).unwrap();
        let text = target.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(!text.contains("zebra"), "{text}");
        text
    };
    for (name, parameter) in NOT_READ {
        let value = if *name == "PGGSSENCMODE" { "require" } else { "zebra" };
        let text = warned("postgresql://", &[(name, value)]);
        let open = text.contains(name)
            && (text.contains(parameter) || text.contains("of the service into the URL"));
        assert!(open && text.contains("does not read it"), "{name}: {text}");
        assert_eq!(warned("postgresql://", &[(name, "")]), "");
    }
    let full = "postgresql://u:p@h:1/d?sslmode=require&options=-cx.y%3Dz&sslrootcert=/ca";
    for name in ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]
        .into_iter()
        .chain(["PGSSLMODE", "PGREQUIRESSL", "PGOPTIONS", "PGSSLROOTCERT"])
    {
        assert_eq!(warned(full, &[(name, "zebra")]), "", "{name}");
    }
    let two = warned("postgresql://u:p@h/d", &[("PGSSLMODE", "x"), ("PGSSLCRL", "y")]);
    assert!(two.contains("PGSSLCRL, PGSSLMODE are set, and cts does not read them"), "{two}");
}
