#!/usr/bin/env bash
# Fetches a package from the registry of npm, without npm, and unpacks it into a folder if its archive is the expected
# one. Arguments: package, version, SHA-512 of the archive in base64, folder.
set -euo pipefail

archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
curl --fail --silent --show-error --location --retry 1 --connect-timeout 20 --speed-limit 1000 --speed-time 60 \
    --output "$archive" "https://registry.npmjs.org/$1/-/${1##*/}-$2.tgz"
if [ "$(openssl dgst -sha512 -binary "$archive" | base64 -w0)" != "$3" ]; then
    echo "the archive of $1@$2 is not the expected one" >&2
    exit 1
fi
mkdir -p "$4"
tar -xzf "$archive" -C "$4" --no-same-owner --strip-components=1
