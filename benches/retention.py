#!/usr/bin/env python3
"""What a program that writes at full speed notices of `cts prune`, and how fast rows and pages go.

    python3 benches/retention.py [--rows N] [--rate N] [--dir FOLDER] [--cts FILE] [--json FILE]

A database has N old rows, half of them log lines and half expired indications, and a tenth as many young ones. `cts serve` runs
on it, and a program commits one indication after the other, as fast as it can, with the settings
of docs/sqlite.md and a busy timeout of 5 s. What it waits for
a commit is measured for ten seconds alone, and then while `cts prune` deletes the old rows and gives their pages back. At the
end everything is stopped, and `cts prune --compact` rebuilds the file.

10^7 rows need 10 GB in FOLDER. Goals are shown, not asserted.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from measuring import (
    HEALTH,
    ROOT,
    Failed,
    Row,
    Spread,
    answers_200,
    environment,
    positive,
    print_table,
    shown,
    sync_time,
    unused_port,
)

CTS = ROOT / "target/release/cts"
FILL = """
    INSERT OR IGNORE INTO exchange_connections (id, name) VALUES ('bybit-1', 'main'), ('okx-1', 'second');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} / 2)
    INSERT INTO site_logs (timestamp, level, category, message, context, connection_id)
    SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || {days} || ' days', (i * 0.1) || ' seconds'), iif(i % 20, 'info', 'warn'), 'trade',
        'order ' || i || ' filled', iif(i % 3, NULL, hex(randomblob(60))), iif(i % 2, 'bybit-1', 'okx-1')
    FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} / 2)
    INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, profit_factor, confidence, status,
        metadata, calculated_at, updated_at)
    SELECT iif(i % 2, 'bybit-1', 'okx-1'), 'SYM' || (i % 200) || 'USDT', 'long', i / 7.0, i % 1000 / 300.0, i % 100 / 100.0,
        'expired', iif(i % 3, NULL, hex(randomblob(90))),
        strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || {days} || ' days', (i * 0.1) || ' seconds'), strftime('%Y-%m-%d %H:%M:%f', 'now')
    FROM n;
"""
INSERT = """
    INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, profit_factor, confidence)
    VALUES ('bybit-1', ?, 'long', 1.5, 2.5, 0.5)
"""
OLD = "SELECT (SELECT count(*) FROM site_logs WHERE timestamp < datetime('now', '-60 days')) + (SELECT count(*) FROM indications_direction WHERE calculated_at < datetime('now', '-60 days'))"
OLD_DAYS, YOUNG_DAYS = 400, 2
# Those of docs/sqlite.md.
SETTINGS = "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 10000; PRAGMA foreign_keys = ON"
ALONE = 10.0


@dataclass(frozen=True)
class Waits:
    """What a writer waited for its commits, in milliseconds."""

    commits: int
    errors: int
    seconds: float
    median: float
    p99: float
    p999: float
    longest: float


def write(db: Path, rate: float, over: Event, result: "multiprocessing.Queue[Waits]") -> None:
    waits, errors, start = [], 0, time.perf_counter()
    with closing(sqlite3.connect(db, isolation_level=None, timeout=5)) as conn:
        conn.executescript(SETTINGS)
        while not over.is_set():
            began = time.perf_counter()
            try:
                conn.execute(INSERT, (f"SYM{len(waits) % 200}USDT",))
            except sqlite3.Error:
                errors += 1
            waits.append((time.perf_counter() - began) * 1000)
            if rate:
                time.sleep(max(0, start + len(waits) / rate - time.perf_counter()))
    waits.sort()
    at = lambda part: waits[min(len(waits) - 1, int(len(waits) * part))]
    seconds = time.perf_counter() - start
    result.put(Waits(len(waits), errors, seconds, at(0.5), at(0.99), at(0.999), waits[-1]))


@contextmanager
def writer(db: Path, rate: float, into: list[Waits]) -> Iterator[None]:
    over, result = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=write, args=(db, rate, over, result))
    process.start()
    try:
        yield
    finally:
        over.set()
    into.append(result.get(timeout=60))
    process.join()


@contextmanager
def service(cts: Path, db: Path) -> Iterator[None]:
    port = unused_port()
    # What is deleted is what is measured.
    env = environment(CTS_RETENTION="0", CTS_BACKUP_EVERY="0", PORT=str(port))
    process = subprocess.Popen([cts, "serve", "--quiet", "--db", db], env=env)
    try:
        deadline = time.monotonic() + 60
        while not answers_200(port, HEALTH):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed("cts serve does not answer")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def fill(cts: Path, db: Path, rows: int) -> None:
    subprocess.run([cts, "migrate", "--quiet", "--db", db], env=environment(), check=True)
    with closing(sqlite3.connect(db)) as conn:
        conn.executescript("PRAGMA synchronous = OFF;" + FILL.format(rows=rows, days=OLD_DAYS))
        conn.executescript(FILL.format(rows=rows // 10, days=YOUNG_DAYS))
        conn.executescript("PRAGMA wal_checkpoint(TRUNCATE)")
    # What a checkpoint would write for the rows of the preparation is written before.
    os.sync()


def mib(db: Path) -> float:
    return db.stat().st_size / (1 << 20)


def prune(cts: Path, db: Path, *words: str) -> tuple[dict, float]:
    start = time.perf_counter()
    argv = [cts, "prune", "--json", "--quiet", "--db", db, *words]
    done = subprocess.run(argv, env=environment(), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failed(f"cts prune: ended with {done.returncode}")
    return json.loads(done.stdout), time.perf_counter() - start


def measure(cts: Path, db: Path, rows: int, rate: float) -> tuple[list[Row], dict[str, object]]:
    fill(cts, db, rows)
    before, waits = mib(db), []
    with closing(sqlite3.connect(db)) as conn:
        old = conn.execute(OLD).fetchone()[0]
    print(f"rows:    {old} old ones, {before:.0f} MiB", flush=True)
    with service(cts, db):
        with writer(db, rate, waits):
            time.sleep(ALONE)
        with writer(db, rate, waits):
            done, seconds = prune(cts, db)
        with closing(sqlite3.connect(db)) as conn:
            left = conn.execute(OLD).fetchone()[0]
    if left:
        raise Failed(f"{left} old rows are left")
    after = mib(db)
    _, compacting = prune(cts, db, "--compact")
    alone, beside = waits
    deleted = sum(table["rows"] for table in done["tables"])
    one = lambda value: Spread(value, value, value)
    ratio = one(beside.commits / beside.seconds / (alone.commits / alone.seconds))
    rate = lambda of: one(of.commits / of.seconds)
    table = [
        Row("errors of the writer", "", one(beside.errors), goal=0),
        Row("longest wait of a commit, against alone", "ms", one(beside.longest), one(alone.longest)),
        Row("longest wait of a commit", "ms", one(beside.longest), goal=50),
        Row("99.9 % of the commits take at most", "ms", one(beside.p999), one(alone.p999)),
        Row("half of the commits take at most", "ms", one(beside.median), one(alone.median)),
        Row("commits a second, against alone", "", rate(beside), rate(alone), ratio),
        Row("longest write lock of a deletion", "ms", one(max(t["longestLockMs"] for t in done["tables"])), goal=20),
        Row("rows deleted a second, beside the writer", "", one(deleted / seconds)),
        Row("file before, and after", "MiB", one(before), one(after)),
        Row("cts prune --compact, with its backup", "s", one(compacting)),
        Row("file after it", "MiB", one(mib(db))),
    ]
    return table, {"alone": asdict(alone), "beside": asdict(beside), "prune": done, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=200_000, metavar="N", help="old rows (default: 200000)")
    parser.add_argument("--rate", type=float, default=0, metavar="N", help="commits a second, in place of as many as it can")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="(default: /var/tmp)")
    parser.add_argument("--cts", type=Path, default=CTS, metavar="FILE", help="a binary that is built already")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.cts == CTS:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--locked"], cwd=ROOT, check=True)
    folder = Path(tempfile.mkdtemp(prefix="cts-bench-", dir=options.dir))
    try:
        print(f"disk:    4 KiB write + fdatasync {shown(sync_time(folder), 'ms')}")
        print(f"machine: {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
        table, figures = measure(options.cts.resolve(), folder / "cts.db", options.rows, options.rate)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"retention.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(table)
    if options.json:
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in table], **figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
