#!/usr/bin/env python3
"""How fast and how small cts is, measured beside the sqlite3 shell and dbmate.

    python3 benches/first_run.py [--runs N] [--dir FOLDER] [--json FILE]

The sides of a comparison take turns within one run, in alternating order (A B, B A, ...), each on files of its own.
A ratio is the median of the ratios of single turns, so that whatever slows the machine for a while slows both sides.
Figures are medians, followed by the 10th and the 90th percentile in brackets. Times are those of whole processes, from
exec to exit, started without a shell. What is deleted or prepared between turns is not timed.

Goals are shown, not asserted: the exit code is 0 unless something could not be run at all. What needs a tool that is
not installed (dbmate from npm, strace, wrk) is shown as not measured.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import (
    ROOT,
    Failed,
    Row,
    Spread,
    compared,
    environment,
    in_order,
    install_dbmate,
    interleaved,
    milliseconds,
    output,
    positive,
    print_table,
    remove,
    shown,
    sync_time,
    write_dbmate_migrations,
)
from serving import CTS, load, memory, starts

SCHEMA = ROOT / "schema/sqlite"
COUNT_OBJECTS = "select count(*) from sqlite_schema"


# Programs and their input


def build() -> None:
    if not CTS.exists():
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)


def write_script(folder: Path) -> Path:
    """The bundled statements for the sqlite3 shell."""
    statements = "\n".join(file.read_text() for file in in_order(SCHEMA))
    script = folder / "script.sql"
    script.write_text(f"PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\nBEGIN;\n{statements}\nCOMMIT;\n")
    return script


def migrate(db: Path) -> list[object]:
    return [CTS, "migrate", "--quiet", "--db", db]


def check(db: Path) -> list[object]:
    return [CTS, "--check", "--db", db]


def sqlite_shell(db: Path, *words: str) -> list[object]:
    return ["sqlite3", "-batch", "-bail", db, *words]


def count_objects(db: Path) -> int:
    with closing(sqlite3.connect(db)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (count,) = connection.execute(COUNT_OBJECTS).fetchone()
    if mode != "wal":
        raise Failed(f"{db}: the journal mode is {mode}")
    return count


# First run, and nothing to do


def first_run(folder: Path, script: Path, dbmate: Path | None, runs: int) -> list[Row]:
    ours, shell, other = folder / "cts.db", folder / "sqlite3.db", folder / "dbmate.db"

    def fresh(db: Path, argv: Sequence[object], env: dict[str, str], stdin: object = os.devnull) -> float:
        remove(db)
        return milliseconds(argv, env, stdin)

    sides = {
        "cts": lambda: fresh(ours, migrate(ours), environment()),
        "sqlite3": lambda: fresh(shell, sqlite_shell(shell), environment(), script),
    }
    if dbmate:
        migrations = write_dbmate_migrations(folder, in_order(SCHEMA))
        url = environment(DATABASE_URL=f"sqlite:{other}")
        up = [dbmate, "--env-file", folder / "none", "--migrations-dir", migrations, "--no-dump-schema", "up"]
        sides["dbmate"] = lambda: fresh(other, up, url)
    took = interleaved(sides, runs)
    if count_objects(ours) != count_objects(shell):
        raise Failed("cts and the sqlite3 shell did not make the same tables and indexes")

    rows = [compared("first run, against sqlite3", took["cts"], took["sqlite3"], goal=0.8)]
    what = "first run, against dbmate up"
    if dbmate:
        rows.append(compared(what, took["cts"], took["dbmate"]))
    else:
        rows.append(Row(what, not_measured="npm cannot install dbmate"))
    return rows


def nothing_to_do(folder: Path, runs: int) -> list[Row]:
    by_migrate, by_check, by_shell = (folder / f"idle-{name}.db" for name in ("migrate", "check", "sqlite3"))
    milliseconds(migrate(by_migrate), environment())
    for copy in (by_check, by_shell):
        shutil.copy(by_migrate, copy)
    took = interleaved(
        {
            "migrate": lambda: milliseconds(migrate(by_migrate), environment()),
            "check": lambda: milliseconds(check(by_check), environment()),
            "sqlite3": lambda: milliseconds(sqlite_shell(by_shell, COUNT_OBJECTS), environment()),
        },
        runs,
    )
    return [
        compared("migrate with nothing to do", took["migrate"], took["sqlite3"], goal=1.3),
        compared("--check", took["check"], took["sqlite3"], goal=1.3),
    ]


# Syncs and bytes


@dataclass(frozen=True)
class Traffic:
    """Disk operations of a program: syncs of any file, bytes written to the database, its WAL and its journal."""

    syncs: int
    written: int


SYNC = re.compile(r"(fsync|fdatasync|sync_file_range|syncfs|sync)\(")
WRITE = re.compile(r"p?write\w*\(\d+<(?P<path>[^>]*)>.*\) += (?P<bytes>\d+)$")


def traced(folder: Path, db: Path, argv: Sequence[object], stdin: object = os.devnull) -> Traffic | None:
    """Runs a program under strace, which writes one file per thread; None if it cannot be traced."""
    trace = folder / "trace"
    calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,write,pwrite64,writev,pwritev,pwritev2"
    strace = ["strace", "-ff", "-qq", "-y", "-s", "0", "-e", calls, "-o", trace]
    try:
        milliseconds([*strace, *argv], environment(), stdin)
    except (FileNotFoundError, Failed):
        return None
    files = list(folder.glob("trace.*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    for file in files:
        file.unlink()
    kept = {f"{db}{suffix}" for suffix in ("", "-wal", "-journal")}
    unnamed = f"{db.parent}/#"  # a temporary file without a name, linked to its path when it is complete
    writes = [
        match
        for match in map(WRITE.match, lines)
        if match and (match["path"] in kept or match["path"].startswith(unnamed))
    ]
    return Traffic(sum(bool(SYNC.match(line)) for line in lines), sum(int(match["bytes"]) for match in writes))


def traffic(folder: Path, script: Path) -> list[Row]:
    ours, shell = folder / "traced-cts.db", folder / "traced-sqlite3.db"
    first, theirs = traced(folder, ours, migrate(ours)), traced(folder, shell, sqlite_shell(shell), script)
    again, looked = traced(folder, ours, migrate(ours)), traced(folder, ours, check(ours))
    names = [f"{what}, syncs" for what in ("first run", "migrate with nothing to do", "--check")]
    if not (first and theirs and again and looked):
        return [Row(name, not_measured="strace cannot trace here") for name in names]

    def exact(figure: float) -> Spread:
        return Spread.of([figure])

    return [
        Row(names[0], "", exact(first.syncs), exact(theirs.syncs), goal=10),
        Row(names[1], "", exact(again.syncs), goal=0),
        Row(names[2], "", exact(looked.syncs), goal=0),
        Row("first run, written", "KiB", exact(first.written / 1024), exact(theirs.written / 1024)),
        Row("migrate with nothing to do, written", "KiB", exact(again.written / 1024)),
    ]


def size() -> Row:
    return Row("binary", "MiB", Spread.of([CTS.stat().st_size / (1 << 20)]), goal=4)


# The machine


def file_system(folder: Path) -> str:
    """Type and device of the file system of a directory."""
    best, found = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, (kind, device, *_) = line.split()[4], line.split(" - ")[1].split()
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, found = mount, f"{kind} ({device})"
    return found


def machine(folder: Path, dbmate: Path | None) -> dict[str, str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {cpu[1] if cpu else platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.2f} before the run",
        "files": f"{folder.parent} on {file_system(folder)}, 4 KiB write + fdatasync {shown(sync_time(folder), 'ms')}",
        "cts": output([CTS, "--version"]).split()[-1],
        "sqlite3": output(["sqlite3", "--version"]).split()[0],
        "dbmate": output([dbmate, "--version"]).split()[-1] if dbmate else "none",
    }


def measure(folder: Path, runs: int) -> tuple[dict[str, str], list[Row]]:
    dbmate = install_dbmate()
    about = machine(folder, dbmate)
    script = write_script(folder)
    rows = [
        *first_run(folder, script, dbmate, runs),
        *traffic(folder, script),
        *nothing_to_do(folder, runs),
        size(),
        *memory(folder),
        *starts(folder, runs),
        *load(folder),
    ]
    return about, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=positive, default=50, metavar="N", help="turns of each side (default: 50)")
    parser.add_argument(
        "--dir", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="for the databases (default: /var/tmp)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    try:
        build()
        with tempfile.TemporaryDirectory(prefix="cts-bench-", dir=options.dir) as folder:
            about, rows = measure(Path(folder).resolve(), options.runs)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"first_run.py: {error}", file=sys.stderr)
        return 1
    about["runs"] = f"{options.runs} turns of each side; median (10th..90th percentile)"
    for name, value in about.items():
        print(f"{name + ':':<9}{value}")
    print()
    print_table(rows)
    if options.json:
        figures = [{**asdict(row), "reached": row.reached} for row in rows]
        options.json.write_text(json.dumps({"about": about, "rows": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
