#!/bin/sh
# Upgrades cts so that the machine always has one that works; installed as /usr/lib/cts/upgrade, and called by the
# maintainer scripts of the Debian package and by install.sh. Needs coreutils, util-linux and systemd only.
#   upgrade keep                  keep the installed binary as `previous` and note what the service is doing
#   upgrade try [--start] [FILE]  try the new binary (FILE, or what was unpacked as /usr/bin/cts), put it in place, restart the
#                                 service, and go back if it does not become ready. --start: start it whatever it was doing.
#   upgrade cancel                forget that an upgrade was begun; the package manager has put everything back
#   upgrade recover               at boot: finish what a power cut has interrupted
# Exit codes: 0 done; 1 refused or gone back, with the reason: the cts from before is in place, and running if it was;
# 2 the new cts is in place, but it does not run, as none did before.
# Variables: CTS_UPGRADE_WITHOUT_BACKUP=1 goes on where the backup fails; CTS_UPGRADE_TRIAL_SECONDS (60) and
# CTS_UPGRADE_START_SECONDS (900) are how long a trial start and the real one may take.
set -u
umask 022
export LC_ALL=C
# A terminal or a pipe that is gone (the connection of the administrator was lost) must not end this between two steps.
trap '' PIPE

live=/usr/bin/cts
lib=/usr/lib/cts
# The binary that ran before; the new one while it is on trial, and after a refusal; the steps of an upgrade under way.
previous=$lib/previous
candidate=$lib/candidate
unfinished=$lib/unfinished
# What matters only until the machine is booted again.
run=/run/cts-upgrade
unit=/run/systemd/system/cts-trial.service

say() { printf '%s\n' "$*"; }
warn() { printf 'cts upgrade: %s\n' "$*" >&2 || true; }
fail() {
    warn "$*"
    exit 1
}

# --- files: each is complete or not there, also after a power cut ---

is_same() {
    [ -e "$1" ] && [ -e "$2" ] || return 1
    [ "$(stat -Lc %s "$1")" = "$(stat -Lc %s "$2")" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]
}

# Puts FILE at PATH in one step. A hard link needs no room, so that going back works on a full disk.
place() {
    ! is_same "$1" "$2" || return 0
    rm -f "$2.new"
    ln "$1" "$2.new" 2>/dev/null || { cp -p "$1" "$2.new" && sync "$2.new"; } || return 1
    mv -f "$2.new" "$2" && sync "$(dirname "$2")"
}

# Copies FILE to PATH.
copy() {
    if mkdir -p "$(dirname "$2")" && install -m 755 "$1" "$2.new" && sync "$2.new" && mv -f "$2.new" "$2"; then
        sync "$(dirname "$2")"
    else
        rm -f "$2.new"
        return 1
    fi
}

# Appends NAME=VALUE to the notes of this upgrade: within the block that the file has, so on a full disk too.
note() { printf '%s=%s\n' "$1" "$2" >>"$unfinished" && sync "$unfinished"; }

# The last value of NAME in the notes.
noted() {
    value=
    while IFS='=' read -r name rest; do
        [ "$name" != "$1" ] || value=$rest
    done 2>/dev/null <"$unfinished"
    printf '%s' "$value"
}

# Removes notes that are unreadable: a fault of the disk, for they are written in one step.
check_notes() {
    case $(noted step) in kept | staged | started | back) ;; *) rm -f "$unfinished" ;; esac
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

finish() {
    sweep
    rm -rf "$run"
    rm -f "$unfinished" "$unfinished.new" "$candidate.new" "$previous.new" "$live.new"
    sync "$lib"
}

# --- the service ---

make_folders() { mkdir -p "$lib" "$run" && chmod 700 "$run"; }
has_systemd() { [ -d /run/systemd/system ]; }
property() { systemctl show -P "$1" "${2:-cts.service}"; }

# What the service is doing: running, waiting (for a lock or a server), failed, stopped, or masked.
state() {
    left=30
    while [ "$(property ActiveState)" = deactivating ] && [ $left -gt 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    case $(property UnitFileState)/$(property ActiveState) in
    masked*) say masked ;;
    */active | */reloading) say running ;;
    */activating) say waiting ;;
    enabled*/failed) say failed ;;
    *) say stopped ;;
    esac
}

# Notes the state once an upgrade: a second attempt may find a service that the first has stopped.
note_state() {
    has_systemd || return 0
    now=$(state)
    if [ ! -s "$run/state" ] || [ "$now" = running ]; then say "$now" >"$run/state"; fi
}

# Whether this is a cts that can be executed here.
runs() {
    case $(timeout 60 "$1" -V 2>/dev/null) in "cts "*) ;; *) return 1 ;; esac
}

# Asks the service that runs now; 1 is degraded: it works. Where its unit is not of Type=notify, systemd does not know the
# address, and its settings say it.
is_healthy() {
    address=$(property StatusText)
    case $address in
    "serving on "*) address=${address#serving on } ;;
    *) as_service TimeoutStartSec=1min "$live check --ready"; return ;;
    esac
    port=${address##*:}
    case $address in 0.0.0.0:* | "[::]":*) address=127.0.0.1:$port ;; esac
    "$live" --check --url "http://$address" >/dev/null 2>&1 || [ $? -eq 1 ]
}

# The log lines of one run of the service, and of no other.
show_log() {
    journalctl --sync 2>/dev/null
    journalctl --no-pager -q -n 20 -o cat "_SYSTEMD_INVOCATION_ID=$1" + "INVOCATION_ID=$1" >&2
}

# A unit that is not of Type=notify counts as started at once: waits until the service answers. Where it did not answer before
# the upgrade either, it is enough that it runs for half a minute. 1: its process has ended.
await_answer() {
    case $(property Type) in notify*) return 0 ;; esac
    left=${CTS_UPGRADE_START_SECONDS:-900} pid=$(property MainPID)
    [ ! -e "$run/unwell" ] || left=30
    until is_healthy; do
        [ "$(property ActiveState)/$(property MainPID)" = "active/$pid" ] || return 1
        [ "$left" -gt 0 ] || break
        sleep 1
        left=$((left - 1))
    done
}

# Restarts it and waits until it is ready. 1: it is not. 2: it still starts, and waits for something.
restart() {
    # A service that ended at once at each request has taken its socket along.
    [ "$(property ActiveState cts.socket)" != failed ] || systemctl restart cts.socket
    if timeout --foreground "${CTS_UPGRADE_START_SECONDS:-900}" systemctl restart cts.service 2>/dev/null; then
        await_answer
        return
    fi
    [ "$(property ActiveState)/$(property SubState)" != activating/start ] || return 2
    return 1
}

# --- running a binary as the service would be run, beside it ---

# The lines of the section [Service] of the unit and its drop-ins, without what would tie the trial to other units.
service_lines() {
    inside=no
    systemctl cat cts.service 2>/dev/null |
        while read -r line || [ -n "$line" ]; do
            case $line in
            "[Service]") inside=yes ;;
            "["*) inside=no ;;
            Sockets=* | BusName=* | "#"*) ;;
            *) [ $inside = no ] || printf '%s\n' "$line" ;;
            esac
        done
}

# A text as one word of a command in a unit file; before it a PREFIX with a specifier of systemd.
quoted() {
    text=$1 word=${2:-}
    while [ -n "$text" ]; do
        rest=${text#?}
        case ${text%"$rest"} in
        % | \\) word=$word${text%"$rest"}${text%"$rest"} ;;
        \") word=$word\\\" ;;
        *) word=$word${text%"$rest"} ;;
        esac
        text=$rest
    done
    printf '"%s"' "$word"
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

# The flags of the service's command that say which database is meant, as words of a unit file. The credentials of a trial
# have a folder of their own.
database_flags() {
    for name in --db --database-url-file; do
        value=$(flag $name)
        case $value in
        "") ;;
        /run/credentials/cts.service/*) printf ' %s ' "$name" && quoted "${value#/run/credentials/cts.service/}" %d/ ;;
        *) printf ' %s ' "$name" && quoted "$value" ;;
        esac
    done
}

# Runs COMMAND as the user of the service, with its settings; further lines of the unit come first. Leaves what it printed in
# $run/out and $run/err, and how it ended in `result`.
as_service() {
    result=unknown
    {
        # A trial is several starts in a few seconds.
        printf '%s\n' "[Unit]" StartLimitIntervalSec=0 "[Service]"
        service_lines
        printf '%s\n' Type=oneshot ExecCondition= ExecStartPre= ExecStartPost= ExecReload= ExecStop= ExecStopPost= \
            Restart=no WatchdogSec=0 TimeoutStopSec=10 RuntimeDirectory= PrivateTmp=yes ExecPaths=$lib SuccessExitStatus= \
            "StandardOutput=truncate:$run/out" "StandardError=truncate:$run/err" "$1" ExecStart= "ExecStart=$2"
    } >"$unit" || { say "there is no room in /run" >"$run/err"; return 1; }
    : >"$run/out" && : >"$run/err" && systemctl daemon-reload && systemctl start cts-trial.service 2>/dev/null
    started=$?
    result=$(property Result cts-trial.service)/$(property ExecMainStatus cts-trial.service)
    systemctl --quiet stop cts-trial.service
    case $result in
    */203) say "it cannot be executed on this machine" >>"$run/err" ;;
    timeout/*) say "it did not answer in time" >>"$run/err" ;;
    *) [ $started -eq 0 ] || [ -s "$run/err" ] || say "it ended without a message ($result)" >>"$run/err" ;;
    esac
    return $started
}

# Removes what a trial has left, also one that was killed.
sweep() {
    has_systemd && [ -e "$unit" ] || return 0
    systemctl --quiet stop cts-trial.service
    rm -f "$unit"
    systemctl --quiet reset-failed cts-trial.service 2>/dev/null
    systemctl daemon-reload
}

# Starts BINARY on a new database that only it can see, until it is ready; nothing else can be written.
rehearse() {
    what="does not start"
    as_service "Type=notify
TimeoutStartSec=${CTS_UPGRADE_TRIAL_SECONDS:-60}
RuntimeMaxSec=600
ProtectSystem=strict
ReadWritePaths=
SocketBindDeny=
UnsetEnvironment=DATABASE_TYPE DATABASE_URL DATABASE_URL_FILE CTS_BACKUP_DIR CTS_ARCHIVE_DIR CTS_GROUP_ACCESS" \
        "$1 serve --db /tmp/cts-trial/cts.db --host 127.0.0.1 --port 0"
}

# Asks BINARY what it would change in the database of the service; changes nothing.
plan() {
    what="does not accept the database or the settings"
    changes=unknown exists=unknown
    as_service "TimeoutStartSec=${plan_limit:-1h}" "$1 migrate --dry-run --json$(database_flags)" || return 1
    text=$(cat "$run/out")
    case $text in *'"success":true'*) ;; *) say "it printed no plan" >>"$run/err" && return 1 ;; esac
    case $text in *'"steps":[]'*) changes=no ;; *) changes=yes ;; esac
    case $text in *'"exists":true'*) exists=yes ;; *) exists=no ;; esac
}

# Tries the candidate. Where the service does not run, a fault that the previous binary has too is not the candidate's.
try_candidate() {
    rehearse "$new" && plan "$new" && return 0
    verdict=$result failed=$what
    mv "$run/err" "$run/said"
    if [ "$(cat "$run/state")" != running ] && [ -x "$previous" ]; then
        if ! { rehearse "$previous" && plan "$previous"; } && [ "$what:$result" = "$failed:$verdict" ]; then
            changes=unknown
            return 0
        fi
    fi
    return 1
}

# Makes a backup with the previous binary; notes its path.
back_up() {
    as_service TimeoutStartSec=6h "$previous backup$(database_flags)" || return 1
    while read -r line; do
        case $line in *"Backup /"*) line=/${line#*Backup /} && note backup "${line%%: *}" && return 0 ;; esac
    done <"$run/err"
    return 1
}

# --- the steps ---

# Ends before anything was changed.
give_up() {
    [ -e "$unfinished" ] || rm -rf "$run"
    fail "$1; nothing was changed"
}

keep() {
    [ -e "$unfinished" ] || rm -f "$run/state"
    note_state || give_up "$run cannot be written"
    [ -e "$live" ] || return 0
    # An upgrade that was not finished has left an untried binary there: the one before stays `previous`.
    if [ ! -e "$unfinished" ] || [ ! -e "$previous" ] || { [ "$(noted step)" = started ] && [ "$(state)" = running ]; }; then
        copy "$live" "$previous" || give_up "$live cannot be kept as $previous"
        rm -f "$unfinished"
    fi
    {
        say "boot=$(boot_id)" && say "step=$1" && say "backup=$(noted backup)" && say "changes=$(noted changes)"
    } >"$unfinished.new" && sync "$unfinished.new" && mv -f "$unfinished.new" "$unfinished" && sync "$lib" && return 0
    rm -f "$unfinished.new"
    give_up "$unfinished cannot be written"
}

# The new binary becomes the candidate, and the previous one is in place while it is tried: a restart or a boot uses that.
stage() {
    if [ -n "$1" ]; then
        copy "$1" "$candidate" || return 1
    elif [ "$(noted step)" = kept ]; then
        if is_same "$live" "$previous"; then rm -f "$candidate"; else place "$live" "$candidate" || return 1; fi
    fi
    note step staged && place "$previous" "$live"
}

refuse() {
    warn "the new cts $1:"
    cat "$run/said" "$run/err" >&2 2>/dev/null
    [ ! -e "$unfinished" ] || place "$previous" "$live"
    finish
    warn "nothing was changed: $("$live" -V 2>/dev/null) is in place${2:-}"
    exit 1
}

try() {
    start=no
    if [ "${1:-}" = --start ]; then start=yes && shift; fi
    # The shell would end with code 2 where the file cannot be opened.
    if ! touch /run/cts-upgrade.lock || [ ! -f /run/cts-upgrade.lock ]; then
        fail "/run/cts-upgrade.lock cannot be written; nothing was changed"
    fi
    exec 9>/run/cts-upgrade.lock
    flock --nonblock 9 || fail "another upgrade is under way"
    [ -z "${1:-}" ] || [ -e "$live" ] || copy "$1" "$live" || exit 1
    if ! has_systemd; then
        [ -z "${1:-}" ] || copy "$1" "$live" || exit 1
        conclude
        return
    fi
    sweep
    # What was noted without an upgrade under way is out of date, but for that of an installation.
    [ -e "$unfinished" ] || [ "$(cat "$run/state" 2>/dev/null)" = start ] || rm -f "$run/state"
    [ -s "$run/state" ] || note_state || give_up "$run cannot be written"
    [ $start = no ] || [ "$(cat "$run/state")" = running ] || say start >"$run/state"
    case $(noted step) in
    "")
        # Otherwise the binary is there already, or the first that is installed here.
        if [ -e "${1:-$candidate}" ] && ! is_same "$live" "${1:-$candidate}"; then keep staged; else rm -f "$candidate"; fi
        ;;
    started)
        [ ! -e "$candidate" ] || mv -f "$candidate" "$live"
        if [ -z "${1:-}" ] || is_same "$live" "$1"; then
            activate
            return
        fi
        keep staged
        ;;
    back)
        if [ -z "${1:-}" ] || is_same "$candidate" "$1"; then go_back; fi
        keep staged
        ;;
    esac
    trap 'refuse "was interrupted"' INT TERM HUP
    [ ! -e "$unfinished" ] || stage "${1:-}" || refuse "cannot be put on trial"
    new=$candidate
    [ -e "$candidate" ] || new=$live
    # A service that runs is not restarted with settings that it would refuse.
    if [ "$new" = "$candidate" ] || [ "$(cat "$run/state")" = running ]; then upgrade; fi
    trap '' INT TERM HUP
    activate
}

# Tries the candidate, backs up what it would change, and swaps the binaries.
upgrade() {
    if [ "$(cat "$run/state")" = running ] && ! is_healthy; then : >"$run/unwell"; fi
    try_candidate || refuse "$failed"
    [ "$new" = "$candidate" ] || return 0
    note changes "$changes"
    if [ "$changes/$exists" = yes/yes ]; then
        back_up || [ -n "${CTS_UPGRADE_WITHOUT_BACKUP:-}" ] ||
            refuse "would change the database, and the backup before it fails" ". CTS_UPGRADE_WITHOUT_BACKUP=1 goes on without"
    fi
    trap '' INT TERM HUP
    note step started || refuse "cannot be put in place"
    mv -f "$candidate" "$live" || refuse "cannot be put in place"
    sync "$(dirname "$live")"
}

# Whether the machine forbids that an installation starts services, as Debian's do by this program.
is_forbidden() {
    [ -x /usr/sbin/policy-rc.d ] || return 1
    /usr/sbin/policy-rc.d cts.service restart
    [ $? -eq 101 ]
}

# Ends an upgrade, or a first installation, and says what there is now.
conclude() {
    before='' backup=
    [ ! -e "$unfinished" ] || { before=$("$previous" -V) && backup=$(noted backup); }
    finish
    "$lib/summary" "$before" "$backup" || warn "$live is in place, but the state of the service cannot be summed up"
    return 0
}

activate() {
    was=$(cat "$run/state")
    case $was in stopped | masked) ;; *) ! is_forbidden || was=forbidden ;; esac
    case $was in
    forbidden)
        say "policy-rc.d forbids starting services here, so the service was left as it is; systemctl restart cts starts the new cts."
        conclude
        return
        ;;
    stopped | masked) conclude && return ;;
    waiting)
        systemctl --no-block restart cts.service
        conclude
        return
        ;;
    esac
    restart
    case $? in
    0) if is_healthy || [ -e "$run/unwell" ]; then conclude && return 0; fi ;;
    2) conclude && return 0 ;;
    esac
    show_log "$(property InvocationID)"
    if [ "$was" = running ] && [ -e "$unfinished" ] && runs "$previous"; then go_back; fi
    finish
    warn "cts is installed, but does not start"
    exit 2
}

# Puts the previous binary back, and the backup too where the new one has changed the database.
go_back() {
    warn "the new cts does not become ready; the previous one is put back"
    note step back
    is_same "$live" "$previous" || place "$live" "$candidate"
    place "$previous" "$live"
    if [ "$(noted changes)" != no ] && ! plan "$previous" && [ "$result" = exit-code/65 ]; then put_database_back; fi
    restart || show_log "$(property InvocationID)"
    finish
    warn "$("$live" -V) is in place again, and the service is $(property ActiveState); the new one is kept as $candidate"
    exit 1
}

# Puts the backup from before the upgrade in place of the database, which is kept beside it. A program of any user that has just
# opened the database must be seen, or it would write to the one that is kept: by its open files, which the user namespace
# of the service hides. The capabilities serve to look at them.
restore() {
    backup=$(noted backup) tries=10 to_look="CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
    [ -n "$backup" ] || return 1
    until as_service "TimeoutStartSec=6h
PrivateUsers=no
CapabilityBoundingSet=$to_look
AmbientCapabilities=$to_look" "$previous restore $(quoted "$backup")$(database_flags)"; do
        # One that opens and closes it for each row is met again and again.
        tries=$((tries - 1))
        [ "$result" = exit-code/75 ] && [ $tries -gt 0 ] || return 1
        sleep 1
    done
    warn "the database is that of the backup $backup again, without what was written after it. $(tail -n 1 "$run/out")"
}

# The previous binary does not accept what the new one has made of the database: the backup from before takes its place, if no
# program has it open.
put_database_back() {
    # A request would start the previous binary, which refuses the database, until systemd closes the socket.
    listening=$(property ActiveState cts.socket)
    systemctl stop cts.socket cts.service
    : >"$run/err"
    restore
    restored=$?
    [ "$listening" != active ] || systemctl start cts.socket
    [ $restored -ne 0 ] || return 0
    warn "the new cts has changed the database, and the backup from before (${backup:-none}) could not be put back:"
    cat "$run/err" >&2
    place "$candidate" "$live"
    systemctl --no-block restart cts.service
    sweep
    fail "the new cts stays in place. '$lib/upgrade try' goes back as soon as no program has the database open"
}

# Starts BINARY on the database of the service, until it is ready.
serves() {
    as_service "Type=notify
TimeoutStartSec=${CTS_UPGRADE_START_SECONDS:-300}" "$1 serve$(database_flags) --host 127.0.0.1 --port 0"
}

# An upgrade that ended with the machine: the previous binary is put back, if it accepts the database, or if the new one, which has
# changed it, does not become ready; then the backup takes the place of the database too.
recover() {
    if [ ! -e "$unfinished" ] || [ ! -e "$previous" ] || [ "$(noted boot)" = "$(boot_id)" ]; then
        rmdir "$run" 2>/dev/null
        exit 0
    fi
    # cts starts after this; its unit has time for a large backup that is put back.
    plan_limit=5min
    if ! runs "$previous"; then
        runs "$live" || ! runs "$candidate" || place "$candidate" "$live"
        finish
        say "An upgrade was interrupted, and $previous cannot be executed; $("$live" -V) is in place."
        exit 0
    fi
    is_same "$live" "$previous" || place "$live" "$candidate"
    case $(noted step)/$(noted changes) in
    kept/* | staged/* | */no) place "$previous" "$live" ;;
    *)
        if plan "$previous" && [ "$exists" = yes ]; then
            place "$previous" "$live"
        elif [ "$result" = exit-code/65 ] && { [ "$(noted step)" = back ] || ! serves "$candidate"; } && restore; then
            place "$previous" "$live"
        elif [ -e "$candidate" ]; then
            mv -f "$candidate" "$live.new" && mv -f "$live.new" "$live"
        fi
        ;;
    esac
    finish
    say "An upgrade was interrupted; $("$live" -V) is in place."
    exit 0
}

case ${1:-} in
keep | try | recover | cancel) make_folders || fail "$lib or $run cannot be made; nothing was changed" ;;
esac
check_notes
case ${1:-} in
keep) keep kept ;;
try) shift && try "$@" ;;
recover) recover ;;
cancel) finish ;;
*) warn "use: upgrade keep | try [--start] [FILE] | recover | cancel" && exit 64 ;;
esac
