#!/bin/sh
# Makes the user cts and the folder of its database, /data, when cts is installed (/usr/lib/cts/folder).
#   folder          at an upgrade: makes what is missing, and changes nothing that exists
#   folder --new    at an installation: gives an existing /data to the user cts if it belongs to root and
#                   holds nothing but what is of cts
set -eu

# Whether nothing is in the folder but a database of cts, its backups and what mkfs makes.
holds_only_cts() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case ${entry##*/} in lost+found | cts.db | cts.db-wal | cts.db-shm | cts.db-journal | backups) ;; *) return 1 ;; esac
    done
}

# Whether the settings name another database than /data/cts.db.
is_elsewhere() {
    grep -Eqs '^[[:space:]]*(SQLITE_DB_PATH=|DATABASE_URL|DATABASE_TYPE=.?postgres)' /etc/default/cts &&
        ! grep -Eqs '^[[:space:]]*SQLITE_DB_PATH=.?/data/cts\.db.?[[:space:]]*$' /etc/default/cts
}

# An empty /data made by an administrator, the mount point of a new disk, or a database that root has copied back.
# A folder that root has prepared for a group is kept as it is.
give_to_cts() {
    [ -d /data ] && [ ! -e /etc/tmpfiles.d/cts.conf ] || return 0
    [ "$(stat -L -c %u:%g /data)" = 0:0 ] && holds_only_cts /data && ! is_elsewhere || return 0
    chown cts:cts /data/.
    chmod 700 /data/.
    for name in cts.db cts.db-wal cts.db-shm cts.db-journal backups; do
        [ ! -e "/data/$name" ] || chown -R -h --from=root:root cts:cts "/data/$name"
    done
    echo "/data belonged to root and held nothing else: it belongs to the user cts now, mode 0700."
}

systemd-sysusers cts.conf
[ "${1:-}" != --new ] || give_to_cts
# systemd-tmpfiles makes no folder through a link, and none in a chroot without /proc; what it cannot make now, it makes at boot.
[ -L /data ] || systemd-tmpfiles --create cts.conf || true
