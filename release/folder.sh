#!/bin/sh
# Makes the user cts and the folder of its database, /data, when cts is installed (/usr/lib/cts/folder).
#   folder          at an upgrade: makes what is missing, and changes nothing that exists
#   folder --check  before an installation: refuses a /data that belongs to others
#   folder --new    at an installation: gives an existing /data to the user cts if it belongs to root and
#                   holds nothing but what is of cts
set -eu

# Whether nothing is in the folder but a database of cts, its backups and what mkfs makes.
holds_only_cts() {
    for entry in /data/* /data/.[!.]* /data/..?* /data/backups/*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case ${entry#/data/} in
        lost+found | cts.db | cts.db-wal | cts.db-shm | cts.db-journal) ;;
        backups | backups/cts-* | backups/last-success) ;;
        *) return 1 ;;
        esac
    done
}

# The same functions are in release/folder.sh and in release/debian/preinst, which runs before anything is unpacked.
check_folder() {
    [ -z "${CTS_ANY_DATA:-}" ] && ! is_elsewhere && [ -e /data ] || return 0
    advice="Set another directory in /etc/tmpfiles.d/cts.conf, SQLITE_DB_PATH in /etc/default/cts and a drop-in with ReadWritePaths=, then install with CTS_ANY_DATA=1"
    [ -d /data ] || refuse "/data is not a directory. $advice"
    owner=$(stat -L -c %U /data)
    [ "$owner" != UNKNOWN ] || owner="the user id $(stat -L -c %u /data)"
    [ "$owner" != cts ] && [ ! -e /data/cts.db ] || return 0
    [ "$owner" != root ] || is_used || return 0
    refuse "/data is in use by $owner, holds no database of cts, and cts would keep its own there as the user cts. $advice"
}

# Whether something is in /data but the backups of cts and what mkfs makes.
is_used() {
    for entry in /data/* /data/.[!.]* /data/..?*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case ${entry##*/} in lost+found | backups) ;; *) return 0 ;; esac
    done
    return 1
}

# Whether the settings name another database than /data/cts.db.
is_elsewhere() {
    grep -Eqs '^[[:space:]]*(SQLITE_DB_PATH=|DATABASE_URL|DATABASE_TYPE=.?postgres)' /etc/default/cts &&
        ! grep -Eqs '^[[:space:]]*SQLITE_DB_PATH=.?/data/cts\.db.?[[:space:]]*$' /etc/default/cts
}

refuse() {
    echo "cts: $*. Nothing was installed." >&2
    exit 1
}
# End of the same functions.

# An empty /data made by an administrator, the mount point of a new disk, or a database that root has copied back.
# A folder that root has prepared for a group is kept as it is.
give_to_cts() {
    [ -d /data ] && [ ! -e /etc/tmpfiles.d/cts.conf ] || return 0
    [ "$(stat -L -c %u:%g /data)" = 0:0 ] && holds_only_cts && ! is_elsewhere || return 0
    chown cts:cts /data/.
    chmod 700 /data/.
    for name in cts.db cts.db-wal cts.db-shm cts.db-journal backups; do
        [ ! -e "/data/$name" ] || chown -R -h --from=root:root cts:cts "/data/$name"
    done
    echo "/data belonged to root and held nothing else: it belongs to the user cts now, mode 0700."
}

case ${1:-} in
--check) check_folder && exit ;;
esac
systemd-sysusers cts.conf
[ "${1:-}" != --new ] || give_to_cts
# systemd-tmpfiles makes no folder through a link, and none in a chroot without /proc; what it cannot make now, it makes at boot.
[ -L /data ] || systemd-tmpfiles --create cts.conf || true
