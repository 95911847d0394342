#!/bin/sh
# Installs or upgrades cts on a machine with systemd and without apt. Needs coreutils and systemd only.
#   ./install.sh               check the machine, install, start, and check that it works
#   ./install.sh --uninstall   stop and remove it; the database and the settings stay
set -eu

units=/usr/lib/systemd/system
doc=/usr/share/doc/cts
here=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

check() {
    [ "$(id -u)" -eq 0 ] || fail "run this as root"
    [ -d /run/systemd/system ] || fail "systemd does not run this machine; run the binary under its service manager (docs/install.md, \"Containers\")"
    [ ! -e /var/lib/dpkg/info/cts.list ] || fail "the package cts is installed here; use apt"
}

check_for_install() {
    machine=$(uname -m)
    built_for=$(cat "$here/architecture")
    case " $built_for " in
    *" $machine "*) ;;
    *) fail "this cts is for $built_for machines, and this machine is $machine" ;;
    esac
    version=$("$here/cts" -V) || fail "$here/cts does not run on this machine"
    for folder in /usr /data; do
        [ -e "$folder" ] || folder=/
        free=$(df -Pk "$folder" | { read -r _; read -r _ _ _ free _; echo "$free"; })
        [ "$free" -ge 65536 ] || fail "less than 64 MiB are free in $folder"
    done
    [ -e /usr/bin/cts ] || "$here/folder.sh" --check || exit
    if ! is_ours_running; then
        port=$(setting PORT 3000)
        ! is_taken "$port" || fail "another program listens on port $port; set PORT in /etc/default/cts"
    fi
}

is_ours_running() {
    systemctl --quiet is-active cts.service || systemctl --quiet is-active cts.socket
}

# The value of a setting in /etc/default/cts, or the default.
setting() {
    value=$2
    if [ -e /etc/default/cts ]; then
        while IFS='=' read -r name rest; do
            [ "$name" != "$1" ] || value=$rest
        done </etc/default/cts
    fi
    say "$value"
}

# Whether a program listens on this TCP port.
is_taken() {
    wanted=$(printf '%04X' "$1") || return 1
    for table in /proc/net/tcp /proc/net/tcp6; do
        [ -e "$table" ] || continue
        while read -r _ local _ state _; do
            [ "$state" != 0A ] || [ "${local##*:}" != "$wanted" ] || return 0
        done <"$table"
    done
    return 1
}

# Installs a file atomically: complete, or not at all.
put() {
    mkdir -p "$(dirname "$3")"
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

install_all() {
    check_for_install
    start=
    if [ -e /usr/bin/cts ]; then
        say "Upgrading $(/usr/bin/cts -V) to $version"
    else
        say "Installing $version"
        start=--start
    fi
    put 755 "$here/upgrade.sh" /usr/lib/cts/upgrade
    put 755 "$here/folder.sh" /usr/lib/cts/folder
    put 755 "$here/summary.sh" /usr/lib/cts/summary
    put 644 "$here/systemd/cts.service" $units/cts.service
    put 644 "$here/systemd/cts-recover.service" $units/cts-recover.service
    put 644 "$here/systemd/cts.socket" $units/cts.socket
    put 644 "$here/systemd/cts-backup.service" $units/cts-backup.service
    put 644 "$here/systemd/cts-backup.timer" $units/cts-backup.timer
    put 644 "$here/systemd/sysusers.d/cts.conf" /usr/lib/sysusers.d/cts.conf
    put 644 "$here/systemd/tmpfiles.d/cts.conf" /usr/lib/tmpfiles.d/cts.conf
    put 644 "$here/cts.1" /usr/share/man/man1/cts.1
    put 644 "$here/completions/cts.bash" /usr/share/bash-completion/completions/cts
    put 644 "$here/completions/cts.fish" /usr/share/fish/vendor_completions.d/cts.fish
    put 644 "$here/completions/_cts" /usr/share/zsh/vendor-completions/_cts
    mkdir -p "$doc/docs" "$doc/examples" "$doc/litestream" "$doc/monitoring" "$doc/licenses"
    install -m 644 "$here"/systemd/cts-offsite.* "$doc/examples"
    install -m 644 "$here"/systemd/litestream.* "$doc/litestream"
    install -m 644 "$here"/*.md "$here/copyright" "$here/sbom.cdx.json" "$doc"
    install -m 644 "$here"/licenses/* "$doc/licenses"
    install -m 644 "$here"/docs/*.md "$here"/docs/*.png "$doc/docs"
    install -m 644 "$here"/monitoring/* "$doc/monitoring"
    [ -e /etc/default/cts ] || put 644 "$here/default" /etc/default/cts
    /usr/lib/cts/folder ${start:+--new}
    systemctl daemon-reload
    # What the operator has disabled or stopped stays so.
    [ -z "$start" ] || systemctl --quiet enable cts.service
    /usr/lib/cts/upgrade try $start "$here/cts"
}

uninstall() {
    systemctl --quiet disable --now cts-backup.timer cts.socket cts.service 2>/dev/null || true
    say "Removing cts:"
    for file in /usr/bin/cts $units/cts.service $units/cts.socket \
        $units/cts-recover.service $units/cts-backup.service $units/cts-backup.timer /usr/lib/sysusers.d/cts.conf \
        /usr/lib/tmpfiles.d/cts.conf /usr/share/man/man1/cts.1 \
        /usr/share/bash-completion/completions/cts /usr/share/fish/vendor_completions.d/cts.fish \
        /usr/share/zsh/vendor-completions/_cts; do
        [ ! -e "$file" ] || say "  $file"
        rm -f "$file"
    done
    say "  /usr/lib/cts"
    say "  $doc"
    rm -rf /usr/lib/cts "$doc"
    systemctl daemon-reload
    systemctl --quiet reset-failed cts.service cts.socket cts-backup.service cts-backup.timer 2>/dev/null || true
    say "Kept: the databases in /data, /etc/default/cts, drop-ins, and the user cts."
}

case ${1:-} in
"") check && install_all ;;
--uninstall) check && uninstall ;;
*) fail "use: install.sh [--uninstall]" ;;
esac
