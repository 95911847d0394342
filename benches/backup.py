#!/usr/bin/env python3
"""How fast `cts backup` copies a database, what it costs the programs that write meanwhile, and its memory.

    python3 benches/backup.py [--rows N] [--runs N] [--seconds N] [--dir FOLDER] [--json FILE]

Quiet: `cts backup` and the `.backup` of the sqlite3 shell take turns, in alternating order. The time of the copy is the one
that cts logs, until the copy is on its disk; the shell's is that of its process, which syncs the copy as well. The proof,
with the SHA-256, is given apart. Then a program writes at full speed, one row a commit, beside `cts serve`, with the settings
that are recommended to programs: for so many seconds alone, and then beside `cts backup`, in turns.

Goals are shown, not asserted.
"""

import argparse
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import Failed, Row, Spread, environment, milliseconds, positive, print_table
from serving import CTS

FILL = """
    INSERT INTO exchange_connections (id, name) VALUES ('bybit-1', 'main'), ('okx-1', 'second');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    INSERT INTO {table} (connection_id, symbol, direction, signal_strength, confidence, status, metadata)
    SELECT iif(i % 2, 'bybit-1', 'okx-1'), 'SYM' || i % 200 || 'USDT', 'long', i / 7.0, i / 9.0,
           iif(i % 100, 'expired', 'active'), iif(i % 3, NULL, hex(randomblob(90))) FROM n;
"""
INSERT = """INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, status)
            VALUES ('bybit-1', 'BTCUSDT', 'long', 1.5, 'active')"""
LOGGED = re.compile(r"copied in (\d+) ms, proved in (\d+) ms")


@dataclass(frozen=True)
class Backup:
    """One run of cts backup: times in ms, memory in KiB."""

    copy: float
    proof: float
    whole: float
    peak: int


def env() -> dict[str, str]:
    return environment()


def fill(db: Path, rows: int) -> None:
    subprocess.run([CTS, "migrate", "--quiet", "--db", db], env=env(), check=True)
    with closing(sqlite3.connect(db)) as conn:
        conn.executescript("PRAGMA synchronous = OFF;" + FILL.format(rows=rows, table="indications_direction"))
        conn.executescript("PRAGMA wal_checkpoint(TRUNCATE)")


def backup(db: Path, to: Path) -> Backup:
    for file in to.parent.glob(to.name + "*"):
        file.unlink()
    start = time.perf_counter()
    process = subprocess.Popen([CTS, "backup", "--db", db, to], env=env(), stderr=subprocess.PIPE, text=True)
    peak = peak_memory(process)
    log, status = process.stderr.read(), process.wait()
    whole = (time.perf_counter() - start) * 1000
    times = LOGGED.search(log)
    if status or not times:
        raise Failed(f"cts backup: {log}")
    return Backup(float(times[1]), float(times[2]), whole, peak)


def peak_memory(process: subprocess.Popen) -> int:
    """The most memory that a process has had resident until it ends, in KiB. (proc(5), VmHWM)"""
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peak = max(peak, int(found[1]))
        time.sleep(0.02)
    return peak


def shell(db: Path, to: Path) -> float:
    to.unlink(missing_ok=True)
    return milliseconds(["sqlite3", "-batch", "-bail", db, f".backup {to}"], env())


class Writer:
    """A program that writes at full speed, as a process of its own."""

    def __init__(self, db: Path):
        words = [sys.executable, __file__, "--writer", str(db)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def stop(self) -> dict[str, float]:
        figures, _ = self.process.communicate("stop\n")
        return json.loads(figures)


def write(db: Path) -> None:
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    with closing(sqlite3.connect(db, isolation_level=None, timeout=5)) as conn:
        conn.executescript("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 10000; PRAGMA cache_size = -65536")
        print("ready", flush=True)
        took, begun = [], time.perf_counter()
        while not stop.is_set():
            start = time.perf_counter()
            conn.execute(INSERT)
            took.append(time.perf_counter() - start)
        seconds = time.perf_counter() - begun
    took.sort()
    at = lambda part: took[min(int(len(took) * part), len(took) - 1)] * 1000
    print(json.dumps({"rate": len(took) / seconds, "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": took[-1] * 1000}))


class Service:
    def __init__(self, db: Path):
        words = [CTS, "serve", "--port", "0", "--db", db]
        self.process = subprocess.Popen(words, env={**env(), "CTS_BACKUP_EVERY": "0"}, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "Ready for Production" in line:
                break
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        for line in self.log:
            if "✗" in line or "⚠" in line:
                print(line, end="", file=sys.stderr)


def beside_writer(db: Path, to: Path, runs: int, seconds: int) -> dict[str, list]:
    """The writer alone and beside a backup, in turns: rate, latencies, and the backup."""
    figures: dict[str, list] = {"alone": [], "beside": [], "backup": [], "wal": []}
    service = Service(db)
    try:
        for turn in range(runs):
            for side in ("alone", "beside") if turn % 2 == 0 else ("beside", "alone"):
                writer = Writer(db)
                if side == "alone":
                    time.sleep(seconds)
                else:
                    time.sleep(0.2)
                    figures["backup"].append(backup(db, to))
                    figures["wal"].append(db.with_name(db.name + "-wal").stat().st_size / (1 << 20))
                figures[side].append(writer.stop())
    finally:
        service.stop()
    return figures


def idle_memory(db: Path) -> int:
    """What an idle service has resident, in KiB."""
    service = Service(db)
    time.sleep(2)
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    service.stop()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


def measure(folder: Path, arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    db, ours, theirs = folder / "cts.db", folder / "ours.db", folder / "theirs.db"
    fill(db, arguments.rows)
    size = db.stat().st_size / (1 << 20)
    backups, shells = [], []
    backup(db, ours), shell(db, theirs)
    for turn in range(arguments.runs):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            backups.append(backup(db, ours)) if side == 0 else shells.append(shell(db, theirs))
    idle = idle_memory(db)
    speed = [other / one.copy for one, other in zip(backups, shells)]
    quiet = Spread.of([one.copy for one in backups])
    rows = [
        Row(f"copy of {size:.0f} MiB, quiet: time, beside `.backup`", "ms", quiet, Spread.of(shells), Spread.of([1 / s for s in speed]), 1 / 0.9),
        Row("proof and SHA-256, quiet", "ms", Spread.of([one.proof for one in backups])),
        Row("the whole of cts backup, quiet", "ms", Spread.of([one.whole for one in backups])),
        Row("peak memory, above that of an idle service", "MiB", Spread.of([(one.peak - idle) / 1024 for one in backups]), goal=16),
    ]
    figures = beside_writer(db, ours, arguments.runs, arguments.seconds)
    whole = Spread.of([one.whole for one in backups]).median
    of = lambda side, what: [run[what] for run in figures[side]]
    ratios = lambda what: [b / a for b, a in zip(of("beside", what), of("alone", what))]
    rows += [
        Row("copy beside a writer at full speed, to quiet", "ms", Spread.of([one.copy for one in figures["backup"]]), quiet, Spread.of([one.copy / quiet.median for one in figures["backup"]]), 2),
        Row("the whole of cts backup beside it, to quiet", "ms", Spread.of([one.whole for one in figures["backup"]]), None, Spread.of([one.whole / whole for one in figures["backup"]]), 2),
        Row("writer's time a commit (1 / rate)", "ms", Spread.of([1000 / r for r in of("beside", "rate")]), Spread.of([1000 / r for r in of("alone", "rate")]), Spread.of([1 / r for r in ratios("rate")]), 1 / 0.8),
        Row("writer's p50", "ms", Spread.of(of("beside", "p50")), Spread.of(of("alone", "p50")), Spread.of(ratios("p50"))),
        Row("writer's p99, above 1.1 times that alone", "ms", Spread.of([b - 1.1 * a for b, a in zip(of("beside", "p99"), of("alone", "p99"))]), goal=20),
        Row("writer's p99", "ms", Spread.of(of("beside", "p99")), Spread.of(of("alone", "p99"))),
        Row("writer's longest commit", "ms", Spread.of(of("beside", "max")), Spread.of(of("alone", "max"))),
        Row("WAL when the backup ends", "MiB", Spread.of(figures["wal"])),
    ]
    return rows, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--runs", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=6, help="how long the program writes alone")
    parser.add_argument("--dir", type=Path, help="folder on the disk to measure")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--writer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        return write(arguments.writer)
    if not CTS.exists():
        subprocess.run(["cargo", "build", "--release"], cwd=CTS.parents[2], check=True)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        rows, figures = measure(Path(folder), arguments)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, sqlite3 shell {sqlite3.sqlite_version}")
    print_table(rows)
    if arguments.json:
        plain = {**figures, "backup": [asdict(one) for one in figures["backup"]]}
        arguments.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "figures": plain}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
