#!/usr/bin/env bash
# Makes a release in target/release-files. For each architecture: a .deb whose binary has both stores, a .tar.gz
# with a fully static binary that has the SQLite store, and of each of the two the list of what its binary is made
# of (SBOM, CycloneDX). Last, the checksums of all. One commit gives the same bytes in every folder, at any time.
#   release.sh [ARCHITECTURE...]    as Debian names them; without any: amd64 arm64 armhf
set -euo pipefail
# Compilers know a folder by its own name, not by that of a link to it.
cd -P "$(dirname "$0")/.."

fail() {
    printf 'release.sh: %s\n' "$*" >&2
    exit 1
}

# Sets, for an architecture: Rust's name for it, GNU's, its compiler, and Debian's packages with that.
describe() { # architecture
    case $1 in
    amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu tools='gcc-x86-64-linux-gnu libc6-dev-amd64-cross' ;;
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu tools='gcc-aarch64-linux-gnu libc6-dev-arm64-cross' ;;
    armhf) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf tools='gcc-arm-linux-gnueabihf libc6-dev-armhf-cross' ;;
    *) fail "there is no release for the architecture \"$1\"; the names are amd64, arm64 and armhf" ;;
    esac
    compiler=$gnu-gcc
    [ "$triple" != "$host" ] || compiler=cc tools='gcc libc6-dev'
}

# Checks, before anything is built, that everything that a build needs is installed.
check_tools() {
    local packages=() triples=() program
    for program in readelf:binutils dpkg-deb:dpkg; do
        command -v "${program%%:*}" >/dev/null || packages+=("${program##*:}")
    done
    printf 'int main(void) { return 0; }\n' >"$work/empty.c"
    for architecture in "${architectures[@]}"; do
        describe "$architecture"
        # shellcheck disable=SC2206 # several words
        "$compiler" -static -o "$work/empty" "$work/empty.c" 2>/dev/null || packages+=($tools)
        compgen -G "$sysroot/lib/rustlib/$triple/lib/libstd-*" >/dev/null || triples+=("$triple")
    done
    [ ${#packages[@]} -eq 0 ] || echo "release.sh: a compiler or a program is missing; install: apt-get install ${packages[*]}" >&2
    [ ${#triples[@]} -eq 0 ] || echo "release.sh: Rust's library for an architecture is missing; install: rustup target add ${triples[*]}" >&2
    [ $((${#packages[@]} + ${#triples[@]})) -eq 0 ] || fail "nothing was built"
    cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb
}

# Builds one binary in $built, a folder of its own. The flags behind -- are those of the last step only, so that all
# builds of an architecture share what they are made of: its SQLite is compiled once, and that of this machine's
# architecture also runs in the build scripts.
build() { # arguments of cargo rustc
    local target=()
    [ "$triple" = "$host" ] || target=(--target "$triple")
    cargo rustc --locked --release --bin cts "${target[@]}" "$@"
}

build_architecture() { # architecture
    describe "$1"
    local built=$CARGO_TARGET_DIR/release flags=() name
    if [ "$triple" != "$host" ]; then
        built=$CARGO_TARGET_DIR/$triple/release
        name=${triple//-/_}
        export "CARGO_TARGET_${name^^}_LINKER=$compiler" "CC_$name=$compiler" "AR_$name=$gnu-ar"
    fi
    # Kernels for ARM have pages of 4, 16 or 64 KiB: a binary whose parts begin at multiples of 64 KiB runs on all.
    [ "$1" = amd64 ] || flags=(-C "link-arg=-Wl,-z,max-page-size=65536")
    # On 32 bits the time of C would end in 2038.
    [ "$1" != armhf ] || export "CFLAGS_${triple//-/_}=$CFLAGS -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64"

    build --features postgres -- "${flags[@]}"
    cp "$built/cts" "$work/both-stores"
    build -- "${flags[@]}" -C target-feature=+crt-static
    cp "$built/cts" "$work/static"
    check_static "$1"
    PROFILE=release release/pack.sh target/release-files "$work/both-stores" "$work/static"
}

# The static binary needs no other file: it runs in an empty root, where it is for this machine.
check_static() { # architecture
    if LC_ALL=C readelf --program-headers --wide "$work/static" | grep -q INTERP; then
        fail "the binary for $1 is not static"
    fi
    [ "$triple" = "$host" ] && unshare --map-root-user true 2>/dev/null || return 0
    mkdir "$work/empty-root"
    cp "$work/static" "$work/empty-root/cts"
    unshare --map-root-user chroot "$work/empty-root" /cts migrate
    unshare --map-root-user chroot "$work/empty-root" /cts --check --deep
}

architectures=("$@")
[ $# -gt 0 ] || architectures=(amd64 arm64 armhf)
host=$(rustc -vV | sed -n 's/^host: //p')
sysroot=$(rustc --print sysroot)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check_tools

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
# SQLite and zstd check the bounds of what they copy, as other programs of Debian do.
CFLAGS=${CFLAGS:--D_FORTIFY_SOURCE=2 -fstack-protector-strong}
# What was compiled in another way is not taken.
CARGO_TARGET_DIR=$PWD/target/release-build
RUSTC_WRAPPER=$PWD/release/rustc.sh
RELEASE_FOLDER=$PWD
RELEASE_CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
RELEASE_REGISTRY=$(realpath -m "$RELEASE_CARGO_HOME/registry")
RELEASE_RUST_SOURCES=$sysroot/lib/rustlib/src/rust
RELEASE_RUST_COMMIT=$(rustc -vV | sed -n 's/^commit-hash: //p')
export SOURCE_DATE_EPOCH CFLAGS CARGO_TARGET_DIR RUSTC_WRAPPER
export RELEASE_FOLDER RELEASE_CARGO_HOME RELEASE_REGISTRY RELEASE_RUST_SOURCES RELEASE_RUST_COMMIT

cargo build --locked --release --package cts-release
rm -rf target/release-files
for architecture in "${architectures[@]}"; do
    build_architecture "$architecture"
done
cd target/release-files
if command -v lintian >/dev/null; then
    lintian --fail-on error,warning --allow-root ./*.deb
else
    echo "The packages were not examined by lintian, which is not installed."
fi
sha256sum --check SHA256SUMS
ls -l
