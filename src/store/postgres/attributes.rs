//! What the catalogue of a PostgreSQL server says of a table, and what of it is compared with the
//! expected catalogue. (PostgreSQL documentation, chapter "System Catalogs", versions 13 to 18)
//!
//! Compared is what decides which rows a program can store, which it finds, and whether they are
//! there after a crash. Not compared is what an operator tunes (storage, statistics, rights), what
//! follows from a column that is compared, and code that the owner has added on purpose.
//!
//! | `pg_class` | |
//! |---|---|
//! | `relname`, `relnamespace` | the table is looked up by them |
//! | `relkind` | `r` and `p`; another object of the name is an obstacle. `p` is the attribute `PARTITION BY …` |
//! | `relpersistence` | `UNLOGGED`; a temporary table is in another schema |
//! | `relispartition`, `pg_inherits.inhparent` | `PARTITION OF …`, `INHERITS …`: another table's statements read and write the rows |
//! | `pg_inherits.inhrelid` | no: a table that inherits from ours is the owner's, and so are its rows |
//! | `relrowsecurity` | `ROW LEVEL SECURITY`: rows are hidden from programs, and refused |
//! | `relforcerowsecurity` | no: cts sets `row_security` to `off`, so that a policy for itself is an error and never a lost row |
//! | `relhasrules` | by `pg_rewrite` |
//! | `relchecks`, `relhasindex`, `relhastriggers`, `relhassubclass`, `relnatts` | no: they count what is compared itself |
//! | `relowner`, `relacl` | no: rights, which the roles and `cts doctor` deal with |
//! | `reltablespace`, `reloptions`, `relam`, `reltoastrelid` | no: where and how rows are stored is the operator's choice |
//! | `relreplident` | no: logical replication is the operator's |
//! | `reltype`, `reloftype`, `relfilenode`, `relpages`, `reltuples`, `relallvisible`, `relallfrozen`, `relisshared`, `relispopulated`, `relrewrite`, `relfrozenxid`, `relminmxid`, `relpartbound` | no: the server's own, or of other kinds of relations |
//!
//! | `pg_attribute` | |
//! |---|---|
//! | `attname`, `atttypid`, `atttypmod`, `attnotnull` | yes; a NOT NULL that is not validated (18) counts as none |
//! | `atthasdef`, `pg_attrdef.adbin`, `attidentity`, `attgenerated` | yes, as the default of the column |
//! | `attcollation` | `COLLATE …`, where it is not that of the type: it decides which texts are equal, and their order |
//! | `attnum` | no: programs name columns |
//! | `attisdropped` | dropped columns are left out |
//! | `attislocal`, `attinhcount` | no: by the parents of the table |
//! | `attstorage`, `attcompression`, `attstattarget`, `attoptions`, `attfdwoptions`, `attacl` | no: tuning and rights |
//! | `attlen`, `attbyval`, `attalign`, `attndims`, `attcacheoff`, `atthasmissing`, `attmissingval` | no: they follow from the type, or are the server's own |
//!
//! | `pg_constraint` | |
//! |---|---|
//! | `contype` | primary keys, UNIQUE, CHECK, foreign keys and EXCLUDE; a constraint trigger is the owner's code |
//! | `conkey`, `confkey`, `confrelid`, `confdeltype` | yes, the referenced table with its schema where that is another one |
//! | `confupdtype`, `confmatchtype`, `confdelsetcols`, `condeferrable`, `condeferred` | yes, as attributes of the key |
//! | `convalidated`, `conenforced` | `NOT VALID`, `NOT ENFORCED`; and of a foreign key the `tgenabled` of its triggers |
//! | `conbin`, `conexclop` | yes, in the text of CHECK and EXCLUDE |
//! | `conname`, `connamespace` | no: a constraint may be renamed |
//! | `connoinherit`, `conislocal`, `coninhcount`, `conparentid`, `conperiod` | no: they follow from the parents and the types of the columns, and no CHECK is expected |
//! | `contypid`, `conindid`, `conpfeqop`, `conppeqop`, `conffeqop` | no: they follow from the columns |
//!
//! | `pg_index` | |
//! |---|---|
//! | `indisunique`, `indkey`, `indexprs`, `indpred`, `indoption`, `pg_class.relam` | yes |
//! | `indnatts` beyond `indnkeyatts` | `INCLUDE …` |
//! | `indcollation`, `indclass` | yes, where it is not that of the column and the default of its type: such an index serves other queries |
//! | `indnullsnotdistinct` | yes (15) |
//! | `indisvalid`, `indisready`, `indislive` | an index without them counts as missing |
//! | `indisprimary`, `indisexclusion`, `indimmediate` | by the constraint |
//! | `indisclustered`, `indisreplident`, `indcheckxmin` | no: `CLUSTER` and replication are the operator's; the last is the server's own |
//!
//! | `pg_trigger` | |
//! |---|---|
//! | `tgconstraint`, `tgenabled` | of foreign keys: one whose triggers are not `O` or `A` checks no row |
//! | (`session_replication_role`) | `replica` turns every foreign key off; it is the setting of cts's own session |
//! | the others | no: a trigger that is not part of a constraint is the owner's code |
//!
//! | `pg_rewrite` | |
//! |---|---|
//! | `rulename`, `ev_type`, `is_instead`, `ev_enabled` | `RULE … ON … DO INSTEAD`: what programs write goes elsewhere, or nowhere |
//! | `ev_qual`, `ev_action` | no: a rule with INSTEAD is reported whatever it does; one with ALSO is the owner's code |

use super::catalog::is_our_table;
use super::row::Row;
use crate::error::Result;
use cts_schema::catalog::attribute::{KEYS_TURNED_OFF, NOT_VALID};
use cts_schema::catalog::{Catalog, List, Text};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// The collation of a column `a` whose type is `t`, as an attribute; NULL for that of the type.
pub const COLLATION: &str = "CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END";

/// The key at `place` of the index `x`, with what is not the default of its type: collation,
/// operator class and order.
pub const INDEX_KEY: &str = "\
    (SELECT coalesce(a.attname::text, '(' || pg_get_indexdef(x.indexrelid, place, true) || ')') \
         || CASE WHEN a.attcollation <> x.indcollation[place - 1] THEN ' COLLATE ' || x.indcollation[place - 1]::oid::regcollation ELSE '' END \
         || CASE WHEN o.opcdefault THEN '' ELSE ' ' || o.opcname END \
         || CASE x.indoption[place - 1] & 3 WHEN 1 THEN ' DESC NULLS LAST' WHEN 3 THEN ' DESC' WHEN 2 THEN ' NULLS FIRST' ELSE '' END \
     FROM pg_opclass o LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[place - 1] AND a.attnum > 0 \
     WHERE o.oid = x.indclass[place - 1])";

/// The attributes of the index `x`, a line each; NULL without one.
pub const INDEX_ATTRIBUTES: &str = "\
    nullif(concat_ws(chr(10), \
        'INCLUDE (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY place) \
             FROM generate_series(x.indnkeyatts + 1, x.indnatts) place \
             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[place - 1]) || ')', \
        CASE WHEN x.indisunique AND to_jsonb(x) ->> 'indnullsnotdistinct' = 'true' THEN 'NULLS NOT DISTINCT' END), '')";

/// The query for the attributes of our tables: table, attribute.
pub fn of_tables(schema: &str) -> String {
    format!(
        "SELECT c.relname, v.attribute FROM pg_class c CROSS JOIN LATERAL ( \
             SELECT 'UNLOGGED' WHERE c.relpersistence = 'u' \
             UNION ALL SELECT 'PARTITION BY ' || pg_get_partkeydef(c.oid) WHERE c.relkind = 'p' \
             UNION ALL SELECT CASE WHEN c.relispartition THEN 'PARTITION OF ' ELSE 'INHERITS ' END || h.inhparent::regclass \
                 FROM pg_inherits h WHERE h.inhrelid = c.oid \
             UNION ALL SELECT 'ROW LEVEL SECURITY' WHERE c.relrowsecurity \
             UNION ALL SELECT '{KEYS_TURNED_OFF}' WHERE current_setting('session_replication_role') = 'replica' \
                 AND EXISTS (SELECT 1 FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f') \
             UNION ALL SELECT 'RULE ' || quote_ident(r.rulename) || ' ON ' \
                     || CASE r.ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END || ' DO INSTEAD' \
                 FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.is_instead AND r.ev_enabled <> 'D' AND r.ev_type <> '1' \
         ) AS v (attribute) WHERE {} ORDER BY 1, 2",
        is_our_table(schema)
    )
}

/// Adds the attributes in the rows of [`of_tables`] to the tables of a catalogue.
///
/// # Errors
/// `Kind::Io` if a row cannot be read.
pub fn add_to(catalog: &mut Catalog, rows: &[Row]) -> Result<()> {
    for row in rows {
        let (name, attribute) = (row.text(0)?, row.text(1)?.to_string());
        if let Some(table) = catalog.tables.to_mut().iter_mut().find(|table| table.name == *name) {
            table.attributes.to_mut().push(attribute.into());
        }
    }
    Ok(())
}

/// A foreign key that rows violate, which is a recorded exception, is as it should be.
pub fn accept_exceptions(catalog: &mut Catalog, exceptions: &[ConstraintException]) {
    for ConstraintException { table, rule, .. } in exceptions {
        let Rule::ForeignKey(parent) = rule else { continue };
        let tables = catalog.tables.to_mut().iter_mut().filter(|found| found.name == **table);
        for key in tables.flat_map(|table| table.foreign_keys.to_mut()) {
            if key.table == **parent {
                key.attributes.to_mut().retain(|attribute| *attribute != NOT_VALID);
            }
        }
    }
}

/// A list of attributes from a cell that has one in each line, or is NULL.
pub fn list(cell: Option<&str>) -> List<Text> {
    let lines = cell.into_iter().flat_map(|text| text.split('\n'));
    lines.map(|line| Text::from(line.to_string())).collect::<Vec<_>>().into()
}
