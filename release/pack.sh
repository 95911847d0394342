#!/usr/bin/env bash
# Packs binaries that are already built: OUT gets the .deb of the first, the .tar.gz of the second,
# and SHA256SUMS. release.sh calls it, and so do the tests, with the binary under test.
#   pack.sh OUT DEB_BINARY TAR_BINARY [VERSION]
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
for_deb=$(realpath "$2")
for_tar=$(realpath "$3")
cd "$(dirname "$0")/.."
version=${4:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/release"
cargo run --quiet --locked --example pages -- "$work/release/pages"

# The same sources give the same bytes. (Set before the build above, it would recompile SQLite.)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

# cargo-deb takes the binary from its target directory.
strip -o "$work/release/cts" "$for_deb"
CARGO_TARGET_DIR=$work cargo deb --quiet --no-build --no-strip --deb-version "$version" --output "$out"

name=cts-$version-linux-$(uname -m)
mkdir -p "$work/$name/completions"
cd release && cp install.sh upgrade.sh default "$work/$name/" && cd ..
cp -r systemd docs release/monitoring ./*.md LICENSE "$work/release/pages/cts.1" "$work/$name/"
cp "$work"/release/pages/{cts.bash,cts.fish,_cts} "$work/$name/completions/"
strip -o "$work/$name/cts" "$for_tar"
uname -m >"$work/$name/architecture"
chmod -R u=rwX,go=rX "$work/$name"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

cd "$out"
sha256sum -- *.deb *.tar.gz >SHA256SUMS
