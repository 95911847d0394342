"""A trading program in Python: `client.py writer|reader DATABASE SECONDS`.

Prints as JSON how many transactions it made, how often SQLite said SQLITE_BUSY, and how long the longest took.
"""

# docs/sqlite.md
import pathlib
import sqlite3
from contextlib import contextmanager


def connect(path):
    uri = pathlib.Path(path).absolute().as_uri() + "?mode=rw"  # never creates a database
    db = sqlite3.connect(uri, uri=True, timeout=5, isolation_level=None)
    for setting in ("synchronous = NORMAL", "cache_size = -65536",
                    "wal_autocheckpoint = 10000", "foreign_keys = ON"):
        db.execute(f"PRAGMA {setting}")
    return db


@contextmanager
def transaction(db):
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
# docs/sqlite.md


import json
import os
import sys
import time

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
LIMIT = """SELECT count(*) FROM pseudo_positions WHERE connection_id = ? AND symbol = ?
           AND indication_type = 'move' AND side = 'long' AND status = 'active'"""


def write(db, symbol):
    with transaction(db):
        db.execute(LIMIT, ("bybit-x03", symbol)).fetchone()
        row = ("bybit-x03", symbol, "move", 1.5)
        db.execute("INSERT INTO pseudo_positions (connection_id, symbol, indication_type, entry_price) VALUES (?, ?, ?, ?)", row)
        db.execute("INSERT INTO site_logs (level, category, message) VALUES ('info', 'orders', 'opened')")


def read(db, symbol):
    db.execute("SELECT id, opened_at FROM pseudo_positions WHERE connection_id = 'bybit-x03' AND status = 'active'"
               " ORDER BY opened_at DESC LIMIT 20").fetchall()
    db.execute(LIMIT, ("bybit-x03", symbol)).fetchone()


def main(role, path, seconds):
    db = connect(path)
    work, pause = (write, 0.01) if role == "writer" else (read, 0.002)
    seen = {"transactions": 0, "busy": 0, "longest_ms": 0.0}
    end = time.monotonic() + float(seconds)
    while (begun := time.monotonic()) < end:
        try:
            work(db, SYMBOLS[(os.getpid() + seen["transactions"]) % len(SYMBOLS)])
            seen["transactions"] += 1
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            seen["busy"] += 1
        seen["longest_ms"] = max(seen["longest_ms"], (time.monotonic() - begun) * 1000)
        time.sleep(pause)
    print(json.dumps(seen))


main(*sys.argv[1:])
