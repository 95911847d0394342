#!/bin/sh
# Says after an installation what was made, where it is, how to ask it, how to back it up and what to do next; after an
# upgrade, what has changed. At most ten lines, true for the state that the service is in. Installed as /usr/lib/cts/summary;
# changes nothing. Needs coreutils and, where it runs, systemd.
#   summary                after an installation, or at any time
#   summary OLD [BACKUP]   after an upgrade from OLD, as in "cts 3.1.0"; BACKUP is the backup that was made before
set -u
export LC_ALL=C

cts=/usr/bin/cts
page=/usr/share/doc/cts/docs/install.md

say() { printf '%s\n' "$*"; }
# A line of the summary; its last part is left out where it would make the line too long.
line() {
    rest=${3:-}
    [ $((12 + ${#2} + ${#rest})) -gt 100 ] || set -- "$1" "$2$rest"
    printf '  %-9s %s\n' "$1" "$2"
}
has_systemd() { [ -d /run/systemd/system ]; }
property() { ! has_systemd || systemctl show -P "$1" "${2:-cts.service}" 2>/dev/null; }

# --- what the service is configured to do ---

files_of_settings() {
    if has_systemd; then property EnvironmentFiles; else say /etc/default/cts; fi
}

# The value of a variable of the service, or the default. A file takes precedence over the unit (systemd.exec(5)).
setting() {
    found=
    set -f
    for word in $(property Environment); do
        case $word in "$1="*) found=${word#*=} ;; esac
    done
    for file in $(files_of_settings); do
        case $file in /*) [ -r "$file" ] || continue ;; *) continue ;; esac
        while IFS='=' read -r name rest || [ -n "$name" ]; do
            [ "$name" != "$1" ] || found=$rest
        done <"$file"
    done
    set +f
    case $found in
    \"*\") found=${found#\"} found=${found%\"} ;;
    \'*\') found=${found#\'} found=${found%\'} ;;
    esac
    say "${found:-$2}"
}

# The value of a flag in the command of the service, which systemd shows without its quotes: it goes on to the next flag.
flag() {
    command=$(property ExecStart)
    command=${command#*argv\[\]=}
    value='' wanted=
    set -f
    for word in ${command%% ; *}; do
        case $word in
        "$1="*) value=${word#*=} wanted=yes ;;
        "$1") value='' wanted=yes ;;
        -*) wanted='' ;;
        *) [ -z "$wanted" ] || value=${value:+$value }$word ;;
        esac
    done
    set +f
    say "$value"
}

# A path as one word of a shell command.
word() {
    case $1 in
    *[!A-Za-z0-9/._-]*) say "'$1'" ;;
    *) say "$1" ;;
    esac
}

is_on_server() {
    case $(setting DATABASE_TYPE "") in
    [Ss]*) return 1 ;;
    [Pp]*) return 0 ;;
    esac
    [ -z "$(flag --db)" ] &&
        [ -n "$(setting DATABASE_URL "")$(setting DATABASE_URL_FILE "")$(flag --database-url-file)" ]
}

# Where the service listens.
listener() {
    address=$(property StatusText)
    case $address in
    "serving on "*) address=${address#serving on } ;;
    *)
        address=$(setting HOST 127.0.0.1):$(setting PORT 3000)
        if [ "$(property ActiveState cts.socket)" = active ]; then
            address=$(property Listen cts.socket)
            address=${address%% *}
        fi
        ;;
    esac
    say "$address"
}

read_configuration() {
    user=$(property User)
    user=${user:-cts}
    if command -v sudo >/dev/null; then sudo="sudo " as_user="sudo -u $user"; else sudo='' as_user="runuser -u $user --"; fi
    listener=$(listener)
    case $listener in
    0.0.0.0:* | "[::]":* | :::*) url=http://127.0.0.1:${listener##*:} ;;
    *) url=http://$listener ;;
    esac
    database=$(flag --db)
    database=${database:-$(setting SQLITE_DB_PATH /data/cts.db)}
    backups=$(setting CTS_BACKUP_DIR "")
    every=$(setting CTS_BACKUP_EVERY 24h)
    command="$as_user cts"
    [ -z "$backups" ] || command="$as_user env CTS_BACKUP_DIR=$(word "$backups") cts"
    [ "$database" = /data/cts.db ] || command="$command --db $(word "$database")"
}

# --- the lines ---

# What the service is doing, and how to start it where it does not run.
service_state() {
    if ! has_systemd; then
        say "No systemd runs here: \`$as_user cts serve\` starts it."
        return
    fi
    boot=" now"
    for enabled in "$(property UnitFileState)" "$(property UnitFileState cts.socket)"; do
        [ "$enabled" != enabled ] || boot=" now and at every boot"
    done
    case $(property LoadState)/$(property ActiveState) in
    */active | */reloading) say "It runs$boot." ;;
    */activating) say "It is starting: \`${sudo}journalctl -u cts\` says what it waits for." ;;
    masked/*) say "Its service is masked: \`${sudo}systemctl unmask cts\`." ;;
    */failed) say "It does not run: \`${sudo}journalctl -u cts\` says why." ;;
    *)
        if [ "$(property ActiveState cts.socket)" = active ]; then
            say "The next request to its port starts it."
        elif [ "$boot" = " now" ]; then
            say "It does not run: \`${sudo}systemctl enable --now cts\`."
        else
            say "It is stopped: \`${sudo}systemctl start cts\`."
        fi
        ;;
    esac
}

database_line() {
    if is_on_server; then
        line Database "on the PostgreSQL server that its settings name"
    elif [ -e "$database" ]; then
        line Database "$database (SQLite), mode $(stat -Lc '%04a, owner %U' "$database")"
    else
        line Database "$database (SQLite), which the first start creates"
    fi
}

# What keeps the service that runs from being healthy, if something does.
check_line() {
    [ "$(property ActiveState)" = active ] || return 0
    check=$("$cts" --check --url "$url" 2>&1) || line Check "${check%% | *}"
}

ask_lines() {
    check_line
    if is_on_server; then
        line Ask "\`cts --check --url $url\`"
    else
        line Ask "\`cts --check --url $url\`" ", \`$command status\`"
    fi
    if [ -n "$(setting CTS_ADMIN_TOKEN "")$(setting CTS_ADMIN_TOKEN_FILE "")" ]; then
        line Page "$url/, which asks for the token"
    else
        case $listener in
        127.* | localhost:* | "[::1]":*) line Page "$url/" ;;
        *) line Page "$url/, once CTS_ADMIN_TOKEN or CTS_ADMIN_TOKEN_FILE is set" ;;
        esac
    fi
}

backup_lines() {
    if is_on_server; then
        if [ -n "$backups" ]; then
            line Backups "$backups, one every $every; \`${sudo}systemctl start cts-backup\` makes one now"
        else
            line Backups "those of the server; cts makes its own where CTS_BACKUP_DIR is set"
        fi
        return
    fi
    case $every in
    0 | 0[a-z]*) when="none by itself (CTS_BACKUP_EVERY=0)" ;;
    *) when="one every $every" ;;
    esac
    line Backups "${backups:-$(dirname "$database")/backups}, $when, and by hand:"
    line "" "\`$command backup\`" ", listed by \`$command backups\`"
}

next_lines() {
    line Next "Run the trading programs as the user $user, or give theirs access:"
    if [ -e "$page" ]; then
        line "" "$page, \"Programs under other users\""
    else
        line "" "the page docs/install.md of cts, \"Programs under other users\""
    fi
}

installed() {
    say "$version is installed. $(service_state)"
    database_line
    ask_lines
    backup_lines
    if has_systemd; then
        line Settings "/etc/default/cts, then \`${sudo}systemctl restart cts\`; the log: \`${sudo}journalctl -u cts\`"
    else
        line Settings "environment variables, which \`cts --help\` lists"
    fi
    next_lines
}

# What this run of the service has migrated.
migrated() {
    journalctl --sync 2>/dev/null
    names='' count=0
    for file in $(journalctl --no-pager -q -o cat "_SYSTEMD_INVOCATION_ID=$(property InvocationID)" 2>/dev/null |
        while read -r _ _ name statements what _; do
            [ "$what" != applied ] || case $name/$statements in *.sql:/[1-9]*) say "${name%:}" ;; esac
        done); do
        names=${names:+$names, }$file count=$((count + 1))
    done
    case $count in
    0) say "none: the schema of the database is unchanged" ;;
    1 | 2) say "$names applied" ;;
    *) say "$count applied" ;;
    esac
}

upgraded() {
    say "$1 was replaced by $version. $(service_state)"
    case $(property ActiveState) in
    active) line Migration "$(migrated)" ;;
    esac
    check_line
    [ -z "$2" ] || line Backup "$2, made before"
    [ ! -e /usr/lib/cts/previous ] || line Previous "/usr/lib/cts/previous ($page, \"Upgrade and remove\")"
    line Ask "\`cts --check --url $url\`; the log: \`${sudo}journalctl -u cts\`"
}

version=$("$cts" -V) || exit
read_configuration
if [ -n "${1:-}" ]; then upgraded "$1" "${2:-}"; else installed; fi
