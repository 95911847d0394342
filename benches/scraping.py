#!/usr/bin/env python3
"""What a scrape of /metrics costs: its time and size, and what ten scrapes a second do to the commits of a program that
writes as fast as it can. Quiet and scraped times of a second take turns, so that a busy machine disturbs both.

Needs target/release/cts.
"""

import argparse
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from measuring import ROOT
from serving import serving

INSERT = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'bench', 'x')"
SCRAPES_PER_SECOND = 10
TURN_SECONDS = 1.0


def scrape(port: int) -> tuple[float, int]:
    """The time in ms and the size in bytes of one scrape."""
    start = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        size = len(answer.read())
    return (time.perf_counter() - start) * 1000, size


def scrape_while(is_on: multiprocessing.Event, is_over: multiprocessing.Event, port: int) -> None:
    while not is_over.is_set():
        if is_on.wait(0.05):
            scrape(port)
            time.sleep(1 / SCRAPES_PER_SECOND)


def commits(conn: sqlite3.Connection) -> list[float]:
    """The times in ms of the commits of one turn."""
    took, end = [], time.perf_counter() + TURN_SECONDS
    while (start := time.perf_counter()) < end:
        conn.execute(INSERT)
        took.append((time.perf_counter() - start) * 1000)
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def writer_beside(port: int, db: Path, turns: int) -> list[tuple[float, float]]:
    """By pair of turns, the 99th percentiles of the commits without and with scrapes."""
    is_on, is_over = multiprocessing.Event(), multiprocessing.Event()
    scraper = multiprocessing.Process(target=scrape_while, args=(is_on, is_over, port))
    scraper.start()
    conn = sqlite3.connect(db, timeout=60, isolation_level=None)
    conn.execute("PRAGMA synchronous = NORMAL")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    pairs = []
    for turn in range(turns + 1):
        found = {}
        for scraped in (False, True) if turn % 2 == 0 else (True, False):
            (is_on.set if scraped else is_on.clear)()
            found[scraped] = p99(commits(conn))
        if turn > 0:
            pairs.append((found[False], found[True]))
    is_over.set()
    scraper.join()
    conn.close()
    return pairs


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--turns", type=int, default=15, help="pairs of turns, a second each")
    arguments = arguments.parse_args()
    if not (ROOT / "target/release/cts").exists():
        raise SystemExit("target/release/cts is missing: cargo build --release")
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "cts.db"
        with serving(db) as server:
            server.await_200("/readyz")
            time.sleep(4)  # The tables are measured 2 s after the start.
            scrapes = [scrape(server.port) for _ in range(200)]
            pairs = writer_beside(server.port, db, arguments.turns)
    times = [took for took, _ in scrapes]
    print(f"a scrape: {statistics.median(times):.2f} ms, p99 {p99(times):.2f} ms, {scrapes[-1][1]} bytes")
    quiet, scraped = (statistics.median(side) for side in zip(*pairs))
    ratio = statistics.median(with_ / without for without, with_ in pairs)
    print(f"p99 of a commit: {quiet:.3f} ms, with {SCRAPES_PER_SECOND} scrapes a second {scraped:.3f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
