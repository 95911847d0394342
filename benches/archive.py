#!/usr/bin/env python3
"""What programs notice of the archive of every change, how far it is behind, how large it becomes, and how fast a moment is restored.

    python3 benches/archive.py [--rows N] [--rate N] [--batch N] [--seconds N] [--turns N] [--dir FOLDER] [--cts FILE] [--json FILE]

A database has N rows. `cts serve` runs on it, with an archive and without one in turn, while a program commits transactions of
as many rows as --batch at so many a second, with the settings of docs/sqlite.md. Measured are the waits of the program for its commits, the lag that
/metrics shows twenty times a second, the memory of the service, and the restore of the newest moment at the end.

Goals are shown, not asserted.
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
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.request import urlopen

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
    INSERT OR IGNORE INTO exchange_connections (id, name) VALUES ('bybit-1', 'main');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, profit_factor, confidence, metadata)
    SELECT 'bybit-1', 'SYM' || (i % 200) || 'USDT', 'long', i / 7.0, i % 1000 / 300.0, i % 100 / 100.0, hex(randomblob(90)) FROM n;
"""
INSERT = """
    INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, profit_factor, confidence, metadata)
    VALUES ('bybit-1', ?, 'long', 1.5, 2.5, 0.5, ?)
"""
# Those of docs/sqlite.md.
SETTINGS = "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 10000; PRAGMA foreign_keys = ON"


def write(db: Path, rate: float, batch: int, over: Event, result: "multiprocessing.Queue[list[float]]") -> None:
    waits, start = [], time.perf_counter()
    with closing(sqlite3.connect(db, isolation_level=None, timeout=5)) as conn:
        conn.executescript(SETTINGS)
        while not over.is_set():
            began = time.perf_counter()
            conn.execute("BEGIN IMMEDIATE")
            for row in range(batch):
                conn.execute(INSERT, (f"SYM{(len(waits) + row) % 200}USDT", os.urandom(60).hex()))
            conn.execute("COMMIT")
            waits.append((time.perf_counter() - began) * 1000)
            if rate:
                time.sleep(max(0, start + len(waits) / rate - time.perf_counter()))
    result.put(waits)


class Service:
    def __init__(self, cts: Path, db: Path, archive: Path | None):
        self.port = unused_port()
        more = {"CTS_ARCHIVE_DIR": str(archive)} if archive else {}
        env = environment(CTS_RETENTION="0", CTS_BACKUP_EVERY="0", PORT=str(self.port), **more)
        self.process = subprocess.Popen([cts, "serve", "--quiet", "--db", db], env=env)

    def until(self, what: str, holds) -> None:
        deadline = time.monotonic() + 120
        while not holds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"never: {what}")
            time.sleep(0.05)

    def metric(self, name: str) -> float | None:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        return None

    def peak_memory(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) / 1024


@contextmanager
def service(cts: Path, db: Path, archive: Path | None) -> Iterator[Service]:
    running = Service(cts, db, archive)
    try:
        running.until("it is healthy", lambda: answers_200(running.port, HEALTH))
        if archive:
            running.until("there is a base", lambda: (archive / "chain.jsonl").exists())
            # The rest of its start.
            running.until("nothing is behind", lambda: (running.metric("cts_archive_lag_seconds") or 9) < 1)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=60)


def part(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def turn(args: argparse.Namespace, db: Path, archive: Path | None) -> dict:
    over, result = multiprocessing.Event(), multiprocessing.Queue()
    lags, largest_wal = [], 0
    with service(args.cts, db, archive) as running:
        idle = running.peak_memory()
        writer = multiprocessing.Process(target=write, args=(db, args.rate, args.batch, over, result))
        writer.start()
        end = time.monotonic() + args.seconds
        while time.monotonic() < end:
            if archive:
                lags.append(running.metric("cts_archive_lag_seconds") or 0)
            largest_wal = max(largest_wal, Path(f"{db}-wal").stat().st_size)
            time.sleep(0.05)
        over.set()
        waits = result.get(timeout=60)
        writer.join()
        memory = running.peak_memory()
        if archive:
            running.until("nothing is behind", lambda: (running.metric("cts_archive_lag_seconds") or 9) < 0.3)
    return {"waits": waits, "lags": lags, "wal": largest_wal, "idle": idle, "memory": memory}


def page_sizes(file: Path) -> dict[int, int]:
    """The pages of an LTX file, each with its size in the file."""
    data, at, sizes = file.read_bytes(), 100, {}
    while (page := int.from_bytes(data[at : at + 4], "big")) != 0:
        size = int.from_bytes(data[at + 6 : at + 10], "big")
        sizes[page] = 10 + size
        at += 10 + size
    return sizes


def merged_share(archive: Path, segments: list[dict]) -> float:
    """The size of the last image of each page in each ten seconds, against that of all images that were captured."""
    captured, windows = 0, {}
    for segment in segments:
        if segment["kind"] == "changes" and segment["level"] == 0:
            sizes = page_sizes(archive / f"ltx/0/{segment['first']:016x}-{segment['last']:016x}.ltx")
            captured += sum(sizes.values())
            windows.setdefault(segment["at"] // 10_000, {}).update(sizes)
    return sum(sum(window.values()) for window in windows.values()) / captured


def measure(args: argparse.Namespace, folder: Path) -> tuple[list[Row], dict]:
    db, archive = folder / "cts.db", folder / "archive"
    subprocess.run([args.cts, "migrate", "--quiet", "--db", db], env=environment(), check=True)
    with closing(sqlite3.connect(db)) as conn:
        conn.executescript("PRAGMA synchronous = OFF;" + FILL.format(rows=args.rows) + "PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()
    with_it, without = [], []
    for number in range(args.turns):
        shutil.rmtree(archive, ignore_errors=True)
        without.append(turn(args, db, None))
        with_it.append(turn(args, db, archive))
        print(f"turn {number + 1} of {args.turns}", flush=True)
    segments = [json.loads(line) for line in (archive / "chain.jsonl").read_text().splitlines()]
    changes = sum(s["bytes"] for s in segments if s["kind"] == "changes")
    start = time.perf_counter()
    env = environment(CTS_ARCHIVE_DIR=str(archive))
    command = [args.cts, "restore", "--quiet", "--db", db, "--at", "latest", "--to", folder / "restored.db"]
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    restoring = time.perf_counter() - start
    start = time.perf_counter()
    shutil.copyfile(db, folder / "copy.db")
    os.sync()
    copying = time.perf_counter() - start
    ratios = lambda share: [part(a["waits"], share) / part(b["waits"], share) for a, b in zip(with_it, without, strict=True)]
    spread = Spread.of
    of = lambda turns, share: spread([part(t["waits"], share) for t in turns])
    lags = [lag for t in with_it for lag in t["lags"]]
    mib = lambda number: number / (1 << 20)
    one = lambda value: Spread(value, value, value)
    table = [
        Row("half of the commits take at most, against without", "ms", of(with_it, 0.5), of(without, 0.5), spread(ratios(0.5))),
        Row("99 % of the commits take at most, against without", "ms", of(with_it, 0.99), of(without, 0.99), spread(ratios(0.99)), goal=1.1),
        Row("longest commit, against without", "ms", spread([max(t["waits"]) for t in with_it]), spread([max(t["waits"]) for t in without])),
        Row("commits a second, against without", "", spread([len(t["waits"]) / args.seconds for t in with_it]), spread([len(t["waits"]) / args.seconds for t in without])),
        Row("99 % of the lags are at most", "s", one(part(lags, 0.99)), goal=1),
        Row("longest lag", "s", one(max(lags))),
        Row("longest WAL, against without", "MiB", spread([mib(t["wal"]) for t in with_it]), spread([mib(t["wal"]) for t in without])),
        Row("memory above that before the writer", "MiB", spread([t["memory"] - t["idle"] for t in with_it]), goal=8),
        Row("segments of the last turn", "MiB", one(mib(changes))),
        Row("merged to 10 s, against all that was captured", "", one(merged_share(archive, segments)), goal=0.5),
        Row("restore of the newest moment, against a copy of the file", "s", one(restoring), one(copying)),
    ]
    return table, {"segments": len(segments), "lags": lags}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=200_000, metavar="N", help="rows before (default: 200000)")
    parser.add_argument("--rate", type=float, default=1000, metavar="N", help="commits a second, 0: as many as it can (default: 1000)")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="rows of a commit (default: 1)")
    parser.add_argument("--seconds", type=positive, default=10, metavar="N", help="length of a turn (default: 10)")
    parser.add_argument("--turns", type=positive, default=3, metavar="N", help="turns with and without (default: 3)")
    parser.add_argument("--dir", type=Path, default=None, metavar="FOLDER", help="where the database is (default: a temporary folder)")
    parser.add_argument("--cts", type=Path, default=CTS, metavar="FILE", help="the binary (default: target/release/cts)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            print(f"disk:    4 KiB write + fdatasync {shown(sync_time(Path(folder)), 'ms')}")
            print(f"machine: {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
            table, figures = measure(args, Path(folder))
    except Failed as error:
        print(f"archive.py: {error}", file=sys.stderr)
        return 1
    print_table(table)
    if args.json:
        args.json.write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
