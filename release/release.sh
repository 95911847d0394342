#!/usr/bin/env bash
# Makes a release in target/release-files: a .deb with the PostgreSQL store in, a .tar.gz whose binary
# is fully static and for SQLite, and their checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(uname -m)-unknown-linux-gnu

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb
cargo build --locked --release --features postgres
# With the triple named, the flag is for the binary and not for what the build itself runs.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$triple"
static=target/$triple/release/cts
if ! ldd "$static" 2>&1 | grep -qE 'statically linked|not a dynamic executable'; then
    echo "$static is not static" >&2
    exit 1
fi

# It runs where there is nothing else.
if unshare --map-root-user true 2>/dev/null; then
    empty=$(mktemp -d)
    trap 'rm -rf "$empty"' EXIT
    cp "$static" "$empty/cts"
    unshare --map-root-user chroot "$empty" /cts migrate
    unshare --map-root-user chroot "$empty" /cts --check --deep
fi

rm -rf target/release-files
release/pack.sh target/release-files target/release/cts "$static"
cd target/release-files
sha256sum --check SHA256SUMS
ls -l
