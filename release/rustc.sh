#!/bin/sh
# Calls rustc for cargo (RUSTC_WRAPPER), so that no binary contains the name of a folder of this machine. As flags of
# cargo's own they would not reach the build scripts of a build for another architecture, which would then be made
# anew, and SQLite with them. release.sh sets the variables.
rustc=$1
shift
exec "$rustc" "$@" --remap-path-prefix="$RELEASE_FOLDER=." --remap-path-prefix="$RELEASE_CARGO_HOME=cargo" \
    --remap-path-prefix="$RELEASE_REGISTRY=cargo/registry" \
    --remap-path-prefix="$RELEASE_RUST_SOURCES=/rustc/$RELEASE_RUST_COMMIT"
