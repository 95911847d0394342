#!/usr/bin/env bash
# Installs what the tests need on Debian, then runs them all. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package, for what the build and the tests call.
needed=(cc:gcc strace:strace sqlite3:sqlite3 systemd-analyze:systemd systemd-sysusers:systemd
    systemd-tmpfiles:systemd mount:mount mkfifo:coreutils)
packages=()
for pair in "${needed[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
[ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
if [ ${#packages[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

exec cargo test --locked "$@"
