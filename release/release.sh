#!/usr/bin/env bash
# Makes a release in target/release-files: a .deb whose binary has both stores, a .tar.gz with a fully
# static binary that has the SQLite store, and their checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(uname -m)-unknown-linux-gnu

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb
cargo build --locked --release --features postgres
# With --target, the flag applies to the binary and not to build scripts.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$triple"
static=target/$triple/release/cts
if ! ldd "$static" 2>&1 | grep -qE 'statically linked|not a dynamic executable'; then
    echo "$static is not static" >&2
    exit 1
fi

# It runs in an empty root.
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
