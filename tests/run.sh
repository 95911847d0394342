#!/usr/bin/env bash
# Installs what the tests need on Debian, then runs them all. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package, for what the build and the tests call.
needed=(cc:gcc strace:strace sqlite3:sqlite3 systemd-analyze:systemd systemd-sysusers:systemd
    systemd-tmpfiles:systemd mount:mount mkfifo:coreutils python3:python3 script:bsdutils)
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

# The trading program in Node is tried where Node is installed; its SQLite is compiled for it.
if command -v node >/dev/null && command -v npm >/dev/null && [ ! -d target/clients/node_modules ]; then
    NPM_CONFIG_NODEDIR=/usr npm install --no-audit --no-fund --silent --prefix target/clients \
        better-sqlite3@11.10.0 || echo "NOT TRIED: better-sqlite3 cannot be installed for Node"
fi

exec cargo test --locked "$@"
