#!/usr/bin/env bash
# Packs binaries of one architecture that are already built: OUT gets the .deb of the first, the .tar.gz of the second,
# the lists of what they are made of, and SHA256SUMS of all that is in OUT. release.sh calls it, and so do the tests,
# with the binary under test.
#   pack.sh OUT DEB_BINARY TAR_BINARY [VERSION]
# PROFILE is the profile of cargo in which the programs that write pages and lists are built; dev where it is not set.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
for_deb=$(realpath "$2")
for_tar=$(realpath "$3")
cd "$(dirname "$0")/.."
version=${4:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}

fail() {
    printf 'pack.sh: %s\n' "$*" >&2
    exit 1
}

# The architecture is that of the binary: Rust's name for it, what `uname -m` says there, and the prefix of GNU's tools.
machine_of() {
    LC_ALL=C readelf --file-header "$1" | sed -n 's/^ *Machine: *//p'
}
[ "$(machine_of "$for_deb")" = "$(machine_of "$for_tar")" ] || fail "$2 and $3 are not for the same architecture"
case $(machine_of "$for_deb") in
*X86-64) triple=x86_64-unknown-linux-gnu machine=x86_64 gnu=x86_64-linux-gnu- ;;
AArch64) triple=aarch64-unknown-linux-gnu machine=aarch64 gnu=aarch64-linux-gnu- ;;
# A system of 32 bits may have a kernel of 64.
ARM) triple=armv7-unknown-linux-gnueabihf machine=armv7l others=' armv8l aarch64' gnu=arm-linux-gnueabihf- ;;
*) fail "$2: there is no package for this architecture: $(machine_of "$for_deb")" ;;
esac
[ "$machine" != "$(uname -m)" ] || gnu=

# The same sources give the same bytes: the time is that of the last commit. (Set in the environment of a build, it would
# recompile SQLite.)
seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
release=$work/$triple/release
pages=$release/pages
mkdir -p "$release"
run() { # program, arguments
    cargo run --quiet --locked --profile "${PROFILE:-dev}" --package cts-release --bin "$1" -- "${@:2}"
}
run pages "$pages" "$version" "$seconds"
run sbom "$seconds" "$triple" postgres >"$release/sbom.cdx.json"
run sbom "$seconds" "$triple" >"$work/sbom.cdx.json"
gzip -9n "$pages/changelog"
gzip -9nk "$pages/cts.1"
export SOURCE_DATE_EPOCH=$seconds

# Removes also what neither the program nor a debugger reads, as Debian's dh_strip does.
strip_binary() { # from, to
    "${gnu}strip" --remove-section=.comment --remove-section=.note -o "$2" "$1"
}

# What a binary needs of the system: the C library, from the version of its newest symbol on, which is the same for
# all architectures. (dpkg-shlibdeps knows no symbols of another architecture, and would name the version that is
# installed here.)
libraries_of() { # binary
    local needed newest
    needed=$(LC_ALL=C readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -vE '^(libc|libm|libdl|libpthread|librt|libgcc_s|ld-linux[a-z0-9-]*)\.so\.[0-9]+$' || true)
    [ -z "$needed" ] || fail "$1 needs a library that its package would not depend on: $needed"
    newest=$(LC_ALL=C readelf --version-info --wide "$1" | grep -oE 'GLIBC_[0-9]+(\.[0-9]+)+' | sort -uV | tail -n 1)
    [ -z "$newest" ] || printf 'libc6 (>= %s), ' "${newest#GLIBC_}"
}

# Adds what cargo-deb does not write: the libraries that the binary needs, the maintainer that the changelog names, and
# the checksums of the files.
complete_package() { # folder with one package
    local root=$work/root maintainer
    dpkg-deb --raw-extract "$1"/*.deb "$root"
    rm "$1"/*.deb
    maintainer=$(zcat "$pages/changelog.gz" | sed -n 's/^ -- \(.*>\)  .*/\1/p' | head -n 1)
    maintainer=$(printf '%s' "$maintainer" | sed 's/[\\&|]/\\&/g')
    sed -i "s|^Maintainer: .*|Maintainer: $maintainer|; s|^Depends: |&$(libraries_of "$for_deb")|" "$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    # Several threads compress to other bytes than one.
    dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$1" >/dev/null
}

# cargo-deb takes the binary from its target directory.
strip_binary "$for_deb" "$release/cts"
mkdir "$work/deb"
CARGO_TARGET_DIR=$work cargo deb --quiet --fast --no-build --no-strip --target "$triple" \
    --deb-version "$version" --output "$work/deb" >/dev/null
complete_package "$work/deb"
deb=$(basename "$work/deb"/*.deb)
mv "$work/deb/$deb" "$out/"

name=cts-$version-linux-$machine
mkdir -p "$work/$name/completions"
cd release && cp install.sh upgrade.sh summary.sh folder.sh default "$work/$name/" && cd ..
cp -r systemd docs release/monitoring ./*.md LICENSE "$pages"/{copyright,cts.1} "$work/sbom.cdx.json" "$work/$name/"
cp "$pages"/{cts.bash,cts.fish,_cts} "$work/$name/completions/"
mkdir "$work/$name/licenses"
cp /usr/share/common-licenses/{Apache-2.0,LGPL-2.1} "$work/$name/licenses/"
strip_binary "$for_tar" "$work/$name/cts"
echo "$machine${others:-}" >"$work/$name/architecture"
# What builds an image of the folder as it is: docker looks for a Dockerfile, podman and buildah for a Containerfile.
cp release/compose.yaml release/cts.container "$work/$name/"
sed "s/^\(LABEL org.opencontainers.image.version=\).*/\1\"$version\"/" release/Containerfile >"$work/$name/Containerfile"
ln -s Containerfile "$work/$name/Dockerfile"
mkdir "$release/data"
tar -C "$release" --mtime="@$SOURCE_DATE_EPOCH" --owner=10001 --group=10001 --numeric-owner --mode=0700 \
    -cf "$work/$name/data.tar" data
chmod -R u=rwX,go=rX "$work/$name"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

# The lists are also beside the packages, for those who have not installed them.
install -m 644 "$release/sbom.cdx.json" "$out/${deb%.deb}.cdx.json"
install -m 644 "$work/sbom.cdx.json" "$out/$name.cdx.json"
cd "$out"
sha256sum -- *.deb *.tar.gz *.cdx.json >SHA256SUMS
