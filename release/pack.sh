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

# The same sources give the same bytes: the time is that of the last commit. (Set in the environment of a build, it would
# recompile SQLite.)
seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/release"
pages=$work/release/pages
cargo run --quiet --locked --example pages -- "$pages" "$version" "$seconds"
gzip -9n "$pages/changelog"
gzip -9nk "$pages/cts.1"
export SOURCE_DATE_EPOCH=$seconds

# Removes also what neither the program nor a debugger reads, as Debian's dh_strip does.
strip_binary() { # from, to
    strip --remove-section=.comment --remove-section=.note -o "$2" "$1"
}

# Adds what cargo-deb does not write: the checksums of the files, and the maintainer that the changelog names.
complete_package() { # folder with one package
    local root=$work/root maintainer
    dpkg-deb --raw-extract "$1"/*.deb "$root"
    rm "$1"/*.deb
    maintainer=$(zcat "$pages/changelog.gz" | sed -n 's/^ -- \(.*>\)  .*/\1/p' | head -n 1)
    maintainer=$(printf '%s' "$maintainer" | sed 's/[\\&|]/\\&/g')
    sed -i "s|^Maintainer: .*|Maintainer: $maintainer|" "$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zxz --build "$root" "$1" >/dev/null
}

# cargo-deb takes the binary from its target directory.
strip_binary "$for_deb" "$work/release/cts"
mkdir "$work/deb"
CARGO_TARGET_DIR=$work cargo deb --quiet --fast --no-build --no-strip --deb-version "$version" --output "$work/deb" >/dev/null
complete_package "$work/deb"
mv "$work/deb"/*.deb "$out/"

name=cts-$version-linux-$(uname -m)
mkdir -p "$work/$name/completions"
cd release && cp install.sh upgrade.sh summary.sh default "$work/$name/" && cd ..
cp -r systemd docs release/monitoring ./*.md LICENSE "$pages"/{copyright,cts.1} "$work/$name/"
cp "$pages"/{cts.bash,cts.fish,_cts} "$work/$name/completions/"
mkdir "$work/$name/licenses"
cp /usr/share/common-licenses/{Apache-2.0,LGPL-2.1} "$work/$name/licenses/"
strip_binary "$for_tar" "$work/$name/cts"
uname -m >"$work/$name/architecture"
# What builds an image of the folder as it is: docker looks for a Dockerfile, podman and buildah for a Containerfile.
cp release/compose.yaml release/cts.container "$work/$name/"
sed "s/^\(LABEL org.opencontainers.image.version=\).*/\1\"$version\"/" release/Containerfile >"$work/$name/Containerfile"
ln -s Containerfile "$work/$name/Dockerfile"
mkdir "$work/release/data"
tar -C "$work/release" --mtime="@$SOURCE_DATE_EPOCH" --owner=10001 --group=10001 --numeric-owner --mode=0700 \
    -cf "$work/$name/data.tar" data
chmod -R u=rwX,go=rX "$work/$name"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

cd "$out"
sha256sum -- *.deb *.tar.gz >SHA256SUMS
