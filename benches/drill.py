#!/usr/bin/env python3
"""The drill of a large backup at low priority, beside a program that writes: how long it takes, and what it does to the
times of the writer's commits. Quiet and drill take turns, each as long as the other, so that a busy machine disturbs both.

Needs target/release/cts, and about three times `--mib` of room in `--folder`, which should be on the disk of a real database.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from measuring import ROOT

COLUMNS = "connection_id, symbol, side, status, is_open, entry_price, current_price, quantity, configuration_set_id"
INSERT = f"INSERT INTO pseudo_positions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"]


def row(numbers: random.Random) -> tuple:
    price = round(numbers.uniform(1, 60000), 2)
    side = numbers.choice(["long", "short"])
    position = (f"c{numbers.randrange(9)}", numbers.choice(SYMBOLS), side, "active", 1, price, price)
    return (*position, round(numbers.uniform(0, 5), 4), f"set-{numbers.getrandbits(32):08x}")


def fill(path: Path, size_bytes: int) -> int:
    conn, numbers, rows = sqlite3.connect(path), random.Random(1), 0
    conn.execute("PRAGMA synchronous = OFF")
    while path.stat().st_size < size_bytes:
        conn.executemany(INSERT, [row(numbers) for _ in range(100_000)])
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows += 100_000
    conn.close()
    return rows


class Writer(threading.Thread):
    """Commits a row every `pause` seconds; the times of the commits in ms, by what else happens."""

    def __init__(self, path: Path, pause: float):
        super().__init__()
        self.path, self.pause = path, pause
        self.times: dict[str, list[float]] = {"quiet": [], "drill": []}
        self.meanwhile: str | None = None
        self.is_done = False

    def run(self) -> None:
        conn, numbers = sqlite3.connect(self.path, timeout=60), random.Random(2)
        conn.execute("PRAGMA synchronous = FULL")
        while not self.is_done:
            start = time.perf_counter()
            conn.execute(INSERT, row(numbers))
            conn.commit()
            took = time.perf_counter() - start
            if self.meanwhile:
                self.times[self.meanwhile].append(took * 1000)
            time.sleep(max(0.0, self.pause - took))


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cts", type=Path, default=ROOT / "target/release/cts")
    parser.add_argument("--folder", type=Path, default=ROOT / "target")
    parser.add_argument("--mib", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compress", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        environment = {"SQLITE_DB_PATH": str(folder / "cts.db")}
        cts = [given.cts, "--quiet"]
        subprocess.run([*cts, "migrate"], env=environment, check=True)
        rows = fill(folder / "cts.db", given.mib << 20)
        flags = ["--compress"] if given.compress else []
        start = time.perf_counter()
        subprocess.run([*cts, "backup", *flags], env=environment, check=True)
        print(f"{rows} rows, {given.mib} MiB; backup {' '.join(flags)} {time.perf_counter() - start:.1f} s")
        backup = next(path for path in (folder / "backups").iterdir() if path.suffix in (".db", ".zst"))
        print(f"backup of {backup.stat().st_size >> 20} MiB")
        writer = Writer(folder / "cts.db", 0.005)
        writer.start()
        verify = ["nice", "-n", "19", *cts, "backup", "--verify", backup]
        for _ in range(given.rounds):
            writer.meanwhile = "drill"
            start = time.perf_counter()
            done = subprocess.run(verify, env=environment, capture_output=True)
            took = time.perf_counter() - start
            writer.meanwhile = None
            assert done.returncode == 0, done.stderr
            os.sync()
            writer.meanwhile = "quiet"
            time.sleep(took)
            writer.meanwhile = None
            quiet, drill = writer.times["quiet"], writer.times["drill"]
            print(
                f"drill {took:.1f} s; p99 of {len(drill)} commits beside it {p99(drill):.2f} ms, "
                f"of {len(quiet)} alone {p99(quiet):.2f} ms, {p99(drill) / p99(quiet):.2f} times"
            )
        writer.is_done = True
        writer.join()


if __name__ == "__main__":
    main()
