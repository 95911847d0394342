#!/usr/bin/env python3
"""How fast the statistics of closed positions are calculated, and how long a writer waits meanwhile.

    python3 benches/statistics.py [--rows N] [--days N] [--dir FOLDER] [--cts FILE]

One SQLite file with N closed positions of so many days, 3 connections, 10 symbols, 5 types of indication and 4 of strategy.

- From nothing: the service is started, and the time is taken from the first step of its thread, a second after it is ready,
  until the last day has its statistics. Meanwhile a writer inserts a row each millisecond; its longest wait is shown.
- A second run: the service is started again, and no row of the three tables may change.
- One changed day: `cts verify --statistics` of a file with 10^4 positions of one day, less that of an empty file: the
  positions are read, calculated and compared.

Goals are shown, not asserted.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from measuring import ROOT, Failed, environment, milliseconds, positive

FILL = """
    INSERT INTO exchange_connections (id, name) VALUES ('c0', 'one'), ('c1', 'two'), ('c2', 'three');
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})
    INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, pnl, profit_loss,
        opened_at, closed_at)
    SELECT 'c' || (i % 3), 'SYM' || (i % 10) || 'USDT', 'type' || (i % 5), 'level' || (i % 4),
        iif(i % 7, 'closed', 'stopped'), iif(i % 11, (abs(random()) % 20001 - 10000) / 977.0, NULL), (i % 13 - 6) / 3.0,
        strftime('%Y-%m-%d %H:%M:%f', 1.7e9 + i * {step} - 600, 'unixepoch'),
        strftime('%Y-%m-%d %H:%M:%f', 1.7e9 + i * {step}, 'unixepoch')
    FROM n;
"""
TABLES = ("statistics_daily", "statistics_indication", "statistics_strategy")
GOAL_SECONDS = 2.0
GOAL_DAY_MILLISECONDS = 20.0
# Between the line of the log that says that the service is ready and the first step of the thread.
DELAY_SECONDS = 1.0


def fill(cts: Path, db: Path, rows: int, days: float) -> None:
    subprocess.run([cts, "migrate", "--quiet", "--db", db], env=environment(), check=True)
    if rows:
        with closing(sqlite3.connect(db)) as conn:
            conn.executescript("PRAGMA synchronous = OFF;" + FILL.format(rows=rows, step=days * 86400 / rows))
            conn.executescript("PRAGMA wal_checkpoint(TRUNCATE)")
        os.sync()


class Service:
    """The running service; `ready_at` is when its log said so."""

    def __init__(self, cts: Path, db: Path):
        words = [cts, "serve", "--port", "0", "--db", db]
        env = environment(CTS_BACKUP_EVERY="0", CTS_RETENTION="0")
        self.process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "Ready for Production" in line:
                self.ready_at = time.perf_counter()
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        raise Failed("the service did not become ready")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Writer(threading.Thread):
    """Inserts a row each millisecond, and keeps how long each took."""

    def __init__(self, db: Path):
        super().__init__(daemon=True)
        self.db, self.stopping, self.waits = db, False, []

    def run(self) -> None:
        with closing(sqlite3.connect(self.db, isolation_level=None, timeout=5)) as conn:
            conn.execute("PRAGMA synchronous = NORMAL")
            conn.execute("PRAGMA wal_autocheckpoint = 0")
            while not self.stopping:
                start = time.perf_counter()
                conn.execute("INSERT INTO site_logs (level, category, message) VALUES ('info', 'bench', 'x')")
                self.waits.append((time.perf_counter() - start) * 1000)
                time.sleep(0.001)


def rows(db: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(db)) as conn:
        return [row for table in TABLES for row in conn.execute(f"SELECT * FROM {table} ORDER BY id")]


def until_complete(db: Path, service: Service, limit: float) -> float:
    """The seconds from the first step until every day has its row."""
    with closing(sqlite3.connect(db)) as conn:
        days = "SELECT count(*) FROM (SELECT DISTINCT connection_id, substr(closed_at, 1, 10) FROM pseudo_positions)"
        (expected,) = conn.execute(days).fetchone()
        deadline = time.perf_counter() + limit
        while conn.execute("SELECT count(*) FROM statistics_daily").fetchone()[0] < expected:
            if time.perf_counter() > deadline or service.process.poll() is not None:
                raise Failed("the statistics were not completed")
            time.sleep(0.005)
    return time.perf_counter() - service.ready_at - DELAY_SECONDS


def from_nothing(cts: Path, db: Path, count: int) -> None:
    service = Service(cts, db)
    writer = Writer(db)
    writer.start()
    took = until_complete(db, service, 600 + count / 1000)
    writer.stopping = True
    writer.join()
    service.stop()
    waits = sorted(writer.waits)
    verified = subprocess.run([cts, "verify", "--statistics", "--db", db], env=environment(), check=False,
                              stdout=subprocess.PIPE, text=True)
    print(f"from nothing, {count} positions: {took:.2f} s (goal {GOAL_SECONDS} s for 10^6)")
    print(f"  writer beside it: {len(waits)} rows, 99 % within {waits[len(waits) * 99 // 100]:.1f} ms, longest {waits[-1]:.1f} ms")
    print(f"  {verified.stdout.splitlines()[-1]}")
    if verified.returncode:
        raise Failed("the statistics are not proved")


def second_run(cts: Path, db: Path) -> None:
    before = rows(db)
    service = Service(cts, db)
    time.sleep(10)
    service.stop()
    print(f"second run, 10 s: {'nothing' if rows(db) == before else 'SOMETHING'} of {len(before)} rows changed")


def one_day(cts: Path, folder: Path) -> None:
    took = {}
    for name, count in (("empty", 0), ("day", 10_000)):
        db = folder / f"{name}.db"
        fill(cts, db, count, 0.05)
        service = Service(cts, db)
        until_complete(db, service, 60) if count else None
        service.stop()
        words = [cts, "verify", "--statistics", "--db", db]
        took[name] = sorted(milliseconds(words, environment()) for _ in range(21))[10]
    day = took["day"] - took["empty"]
    print(f"one day of 10^4 positions: {day:.1f} ms (goal {GOAL_DAY_MILLISECONDS} ms); its process takes {took['empty']:.1f} ms more")


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__)[0])
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--days", type=positive, default=100)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--cts", type=Path, default=ROOT / "target/release/cts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        db = folder / "cts.db"
        fill(options.cts, db, options.rows, options.days)
        from_nothing(options.cts, db, options.rows)
        second_run(options.cts, db)
        one_day(options.cts, folder)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"statistics: {failed}")
