//! Whether the service runs as the user who owns the database. After a first run by root it may not.

use crate::store::FileOwner;
use crate::store::finding::{Finding, Group};
use crate::system::users;

/// Compares the owner of the database with the user of the unit.
pub fn examine(owner: &FileOwner, user: &str) -> Finding {
    let name = "owner";
    let owned = format!("{} belongs to {}", owner.path, users::name(owner.uid));
    match users::uid(user) {
        None => {
            let what = format!(
                "not compared: {owned}, and cts.service runs as {user}, whom /etc/passwd does not have"
            );
            Finding::skipped(Group::Service, name, what)
        }
        Some(uid) if uid == owner.uid && !may_create_beside(owner) => {
            let folder_owner = users::name(owner.folder_uid);
            let what = format!(
                "{owned}, but its folder to {folder_owner}, mode {:04o}: cts.service, run by {user}, may create no -wal in it",
                owner.folder_mode
            );
            Finding::bad(Group::Service, name, what)
                .remedy(format!("chown {user}: {}", owner.folder))
        }
        Some(uid) if uid == owner.uid => {
            let what = format!("{owned}, the user of cts.service");
            Finding::good(Group::Service, name, what)
        }
        Some(_) if owner.shared => {
            let what = format!("{owned}; cts.service runs as {user}, and its group may write");
            Finding::good(Group::Service, name, what)
        }
        Some(_) => {
            let what = format!("{owned}, but cts.service runs as {user}, who may not open it");
            // This run may be configured for another database than the service.
            Finding::attention(Group::Service, name, what)
                .remedy(format!("chown {user}: {}*", owner.path))
        }
    }
}

/// Whether the owner of the file may create files in its folder. Whether a group of theirs may is not examined.
fn may_create_beside(owner: &FileOwner) -> bool {
    let others = owner.folder_mode & 0o003 == 0o003 || owner.folder_mode & 0o030 == 0o030;
    let is_own = owner.folder_uid == owner.uid && owner.folder_mode & 0o300 == 0o300;
    owner.uid == 0 || is_own || others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    #[test]
    fn a_database_of_another_user_than_the_services_needs_attention() {
        let owner = |uid, shared| FileOwner {
            path: "/data/cts.db".into(),
            uid,
            shared,
            folder: "/data".into(),
            folder_uid: uid,
            folder_mode: 0o700,
        };
        let found = examine(&owner(0, false), "1001");
        assert_eq!(found.grade, Grade::Attention);
        assert_eq!(found.remedy.as_deref(), Some("chown 1001: /data/cts.db*"));
        assert_eq!(examine(&owner(0, true), "1001").grade, Grade::Good);
        assert_eq!(examine(&owner(1001, false), "1001").grade, Grade::Good);
        assert_eq!(examine(&owner(0, false), "no one").grade, Grade::Skipped);
        let of_root = FileOwner { folder_uid: 0, folder_mode: 0o755, ..owner(1001, false) };
        let found = examine(&of_root, "1001");
        assert_eq!((found.grade, found.remedy.as_deref()), (Grade::Bad, Some("chown 1001: /data")));
        let sticky = FileOwner { folder_mode: 0o1777, ..of_root };
        assert_eq!(examine(&sticky, "1001").grade, Grade::Good);
    }
}
