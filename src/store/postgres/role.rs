//! Examines the role of the connection for `cts doctor`: its privileges, its connection limit, and
//! what the server offers it. (PostgreSQL documentation, "Access Privilege Inquiry Functions")

use super::catalog::is_our_table;
use super::foreign_code::{ForeignCode, creators_sql};
use super::row::Row;
use super::session::Session;
use crate::error::Result;
use crate::store::MissingRights;
use crate::store::finding::{Finding, Group};
use crate::store::sql::{literal, quoted};

const GROUP: Group = Group::Server;

/// What the role may do, and what the server offers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleState {
    /// Version and cipher of TLS; `None` without TLS.
    pub encryption: Option<String>,
    /// The server's clock, in seconds since 1970.
    pub server_clock_seconds: u64,
    role: String,
    may_create: bool,
    /// Whether it may create a database, to which a backup is restored for a trial.
    may_create_database: bool,
    /// Our tables that the role does not own, separated by commas.
    not_owned: Option<String>,
    /// The other roles that may create objects in our schema, and the statements that take that right
    /// from them.
    creators: Option<(String, String)>,
    /// Code of other roles on our tables.
    foreign_code: Vec<ForeignCode>,
    /// The version of the extension `amcheck`, if it is installed.
    amcheck: Option<String>,
    /// `max_connections` of the server.
    connections_max: u32,
    /// `CONNECTION LIMIT` of the role, if it has one.
    role_connections_max: Option<u32>,
}

impl RoleState {
    /// Reads it.
    ///
    /// # Errors
    /// If the query fails, or a cell cannot be read.
    pub fn read(session: &mut Session) -> Result<RoleState> {
        let schema = session.server.schema.clone();
        let row = session.row(&creators_sql(&schema))?;
        let creators = row.get(0).zip(row.get(1));
        let creators = creators.map(|(roles, remedy)| (roles.to_string(), remedy.to_string()));
        let foreign_code = ForeignCode::find(session)?;
        let state = RoleState::from_row(&session.row(&state_sql(&schema))?)?;
        Ok(RoleState { creators, foreign_code, ..state })
    }

    fn from_row(row: &Row) -> Result<RoleState> {
        let optional = |at| row.get(at).filter(|text| !text.is_empty()).map(str::to_string);
        Ok(RoleState {
            role: row.text(0)?.to_string(),
            may_create: row.flag(1)?,
            not_owned: optional(2),
            encryption: optional(3),
            amcheck: optional(4),
            connections_max: row.number(5)?,
            // -1 is no limit.
            role_connections_max: u32::try_from(row.number::<i64>(6)?).ok(),
            server_clock_seconds: row.number(7)?,
            may_create_database: row.flag(8)?,
            ..RoleState::default()
        })
    }

    /// The findings. `missing` is what the role may not do with the tables, as far as they can be read; `pool_max` is
    /// the maximum number of connections of the pool.
    pub fn findings(
        &self,
        schema: &str,
        missing: Option<&MissingRights>,
        pool_max: u32,
    ) -> Vec<Finding> {
        vec![
            self.creation(schema),
            self.privileges(missing),
            self.other_roles(schema),
            self.connection_limit(pool_max),
            self.amcheck(),
            self.drill(),
        ]
    }

    fn creation(&self, schema: &str) -> Finding {
        let (role, name) = (&self.role, "create");
        if self.may_create {
            let what = format!("role {role} may create tables in schema {schema}");
            return Finding::good(GROUP, name, what);
        }
        let what = format!("role {role} may not create tables in schema {schema}");
        Finding::bad(GROUP, name, what).remedy(format!(
            "GRANT USAGE, CREATE ON SCHEMA {} TO {}",
            quoted(schema),
            quoted(role)
        ))
    }

    fn privileges(&self, missing: Option<&MissingRights>) -> Finding {
        let (role, name) = (&self.role, "rights");
        match (missing, &self.not_owned) {
            (Some(missing), _) if !missing.is_writer => {
                Finding::skipped(GROUP, name, missing.to_string())
            }
            (Some(missing), not_owned) => {
                let remedy = match not_owned {
                    Some(_) => ownership_remedy(role),
                    None => missing.remedy(),
                };
                Finding::bad(GROUP, name, missing.to_string()).remedy(remedy)
            }
            (_, Some(tables)) => {
                let what =
                    format!("role {role} does not own, and cannot migrate or repair: {tables}");
                Finding::attention(GROUP, name, what).remedy(ownership_remedy(role))
            }
            _ => {
                let what = format!("role {role} owns all existing tables of CTS");
                Finding::good(GROUP, name, what)
            }
        }
    }

    /// What other roles could make run with the rights of ours.
    fn other_roles(&self, schema: &str) -> Finding {
        let name = "other roles";
        if let Some(code) = self.foreign_code.first() {
            let more = match self.foreign_code.len() {
                1 => String::new(),
                all => format!(", and {} more", all - 1),
            };
            return Finding::attention(GROUP, name, format!("{code}{more}")).remedy(code.remedy());
        }
        match &self.creators {
            Some((roles, remedy)) => {
                let what = format!(
                    "may create objects in schema {schema}: {roles}; cts uses none of them, and a program whose search_path names the schema may"
                );
                Finding::attention(GROUP, name, what).remedy(remedy)
            }
            None => {
                let what = format!("none may create objects in schema {schema}");
                Finding::good(GROUP, name, what)
            }
        }
    }

    fn connection_limit(&self, pool_max: u32) -> Finding {
        let of_role = self.role_connections_max.filter(|max| *max < self.connections_max);
        let (max, setting) = match of_role {
            Some(max) => (max, "the role's CONNECTION LIMIT"),
            None => (self.connections_max, "max_connections of the server"),
        };
        let what = format!("CTS_POOL_MAX {pool_max}, {setting} {max}");
        if pool_max < max {
            return Finding::good(GROUP, "connections", what);
        }
        Finding::attention(GROUP, "connections", format!("{what}: none is left for other programs"))
            .remedy("lower CTS_POOL_MAX, or raise that limit")
    }

    fn drill(&self) -> Finding {
        let (role, name) = (&self.role, "drill");
        match self.may_create_database {
            true => {
                let what = format!("role {role} may create the database that a backup is tried in");
                Finding::good(GROUP, name, what)
            }
            false => {
                let what = format!(
                    "role {role} may not create databases: no backup is restored for a trial here"
                );
                Finding::skipped(GROUP, name, what).remedy(format!(
                    "ALTER ROLE {} CREATEDB, where the server has room for a second copy",
                    quoted(role)
                ))
            }
        }
    }

    fn amcheck(&self) -> Finding {
        match &self.amcheck {
            Some(version) => Finding::good(GROUP, "amcheck", version),
            None => Finding::skipped(
                GROUP,
                "amcheck",
                "not installed: cts --check --deep reads every row and checks no index",
            )
            .remedy("CREATE EXTENSION amcheck, as a superuser of the database"),
        }
    }
}

fn state_sql(schema: &str) -> String {
    format!(
        "SELECT current_user, has_schema_privilege({}, 'CREATE'), \
         (SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c WHERE {} AND NOT pg_has_role(c.relowner, 'USAGE')), \
         (SELECT concat_ws(', ', version, cipher) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), \
         (SELECT extversion FROM pg_extension WHERE extname = 'amcheck'), \
         current_setting('max_connections'), \
         (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), \
         floor(extract(epoch FROM clock_timestamp())), \
         (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user)",
        literal(schema),
        is_our_table(schema)
    )
}

fn ownership_remedy(role: &str) -> String {
    format!(
        "REASSIGN OWNED BY … TO {}, or GRANT what is missing (docs/postgresql.md, \"Rights\")",
        quoted(role)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MissingTableRights;
    use crate::store::finding::Grade::{Attention, Bad, Good, Skipped};

    fn owner() -> RoleState {
        RoleState {
            role: "cts".into(),
            may_create: true,
            may_create_database: true,
            amcheck: Some("1.3".into()),
            connections_max: 100,
            ..RoleState::default()
        }
    }

    #[test]
    fn a_role_that_owns_its_schema_is_good() {
        assert!(owner().findings("cts", None, 20).iter().all(|seen| seen.grade == Good));
    }

    #[test]
    fn each_missing_privilege_is_reported() {
        let grades = |change: fn(&mut RoleState)| {
            let mut state = owner();
            change(&mut state);
            let all = state.findings("cts", None, 20);
            all.into_iter()
                .filter(|o| o.grade != Good)
                .map(|o| (o.name, o.grade))
                .collect::<Vec<_>>()
        };
        assert_eq!(grades(|state| state.may_create = false), [("create".into(), Bad)]);
        let mut missing = MissingRights {
            is_writer: true,
            tables: vec![MissingTableRights { table: "users".into(), rights: "SELECT".into() }],
            ..MissingRights::default()
        };
        assert_eq!(owner().privileges(Some(&missing)).grade, Bad);
        missing.is_writer = false;
        assert_eq!(owner().privileges(Some(&missing)).grade, Skipped);
        assert_eq!(
            grades(|state| state.not_owned = Some("users".into())),
            [("rights".into(), Attention)]
        );
        assert_eq!(grades(|state| state.connections_max = 20), [("connections".into(), Attention)]);
        assert_eq!(
            grades(|state| state.role_connections_max = Some(5)),
            [("connections".into(), Attention)]
        );
        assert_eq!(
            grades(|state| state.creators = Some(("PUBLIC".into(), "REVOKE".into()))),
            [("other roles".into(), Attention)]
        );
        assert_eq!(grades(|state| state.amcheck = None), [("amcheck".into(), Skipped)]);
        assert_eq!(grades(|state| state.may_create_database = false), [("drill".into(), Skipped)]);
    }
}
