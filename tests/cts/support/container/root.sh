#!/usr/bin/env bash
# Prints the folder of a small Debian that systemd-nspawn can boot; its release, as bookworm or trixie, is the argument.
# It is built once, in about two minutes, with some 270 MB from a Debian mirror, and kept in ~/.cache/cts
# (CTS_BOOTED_CACHE says where else); a change to this file builds another.
set -euo pipefail
umask 022

release=$1
cache=${CTS_BOOTED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cts}
root=$cache/booted-$release-$(sha256sum "$0" | head -c 12)

mkdir -p "$cache"
exec 9>"$cache/booted-$release.lock"
flock 9
if [ ! -e "$root" ]; then
    rm -rf "$root.new"
    timeout 900 debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,procps,curl,sqlite3,sudo "$release" "$root.new" >&2
    # Nothing is to begin by itself while a test looks.
    for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
        ln -sf /dev/null "$root.new/etc/systemd/system/$timer.timer"
    done
    rm -rf "$root.new"/var/cache/apt/archives/*.deb "$root.new"/var/lib/apt/lists/*
    mv "$root.new" "$root"
fi
echo "$root"
