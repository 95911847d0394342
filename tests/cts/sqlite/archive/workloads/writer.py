"""A trading program with the SQLite of this Python: see writer.rs, which does the same.

Usage: writer.py DATABASE RECORDS STOP SEED
"""

import hashlib
import os
import random
import sqlite3
import sys
import time

database, records_path, stop, seed = sys.argv[1:]
chance = random.Random(int(seed))
records = os.open(records_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def digest(conn):
    found = hashlib.sha256()
    schema = ("SELECT type || '|' || name || '|' || coalesce(sql, '') FROM sqlite_schema"
              " WHERE tbl_name GLOB 'own*' ORDER BY name")
    for (text,) in conn.execute(schema):
        found.update(text.encode() + b"\n")
    tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'own*' ORDER BY name"
    for (table,) in conn.execute(tables).fetchall():
        columns = "SELECT group_concat('quote(\"' || name || '\")', ' || ') FROM pragma_table_info(?)"
        (values,) = conn.execute(columns, [table]).fetchone()
        for (text,) in conn.execute(f"SELECT {values} FROM {table} ORDER BY rowid"):
            found.update(text.encode() + b"\n")
    return found.hexdigest()


def change(conn, count, size):
    for _ in range(count):
        at = chance.randrange(300)
        if chance.randrange(5) == 0:
            conn.execute("DELETE FROM own WHERE id BETWEEN ?1 AND ?1 + 20", [at])
        else:
            values = [at, chance.randrange(1 << 30), chance.randrange(size)]
            conn.execute("INSERT OR REPLACE INTO own VALUES (?1, ?2, randomblob(?3))", values)


def change_schema(conn):
    name = f"own_extra{chance.randrange(3)}"
    conn.execute(f"DROP TABLE IF EXISTS {name}")
    conn.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, y TEXT UNIQUE)")
    conn.execute(f"INSERT INTO {name} SELECT id, hex(randomblob(9)) FROM own LIMIT 40")


def rebuild(conn):
    conn.execute("CREATE TABLE own_new (id INTEGER PRIMARY KEY, x INTEGER, filling BLOB)")
    conn.execute("INSERT INTO own_new SELECT * FROM own")
    conn.execute("DROP TABLE own")
    conn.execute("ALTER TABLE own_new RENAME TO own")
    conn.execute("CREATE INDEX own_x ON own (x)")


def transact(conn):
    conn.execute("BEGIN IMMEDIATE")
    change(conn, 1 + chance.randrange(200 if chance.randrange(25) == 0 else 10), 1500)
    if chance.randrange(3) == 0:
        conn.execute("SAVEPOINT s")
        change(conn, 1 + chance.randrange(60), 6000)
        conn.execute("ROLLBACK TO s")
        if chance.randrange(2) == 0:
            change(conn, 4, 1500)
        conn.execute("RELEASE s")
    if chance.randrange(25) == 0:
        change_schema(conn)
    if chance.randrange(30) == 0:
        rebuild(conn)
    if chance.randrange(8) == 0:
        return conn.execute("ROLLBACK")
    token = f"{chance.getrandbits(64):016x}"
    conn.execute("INSERT INTO own_history SELECT coalesce(max(n), 0) + 1, ? FROM own_history", [token])
    (n,) = conn.execute("SELECT max(n) FROM own_history").fetchone()
    line = f"{n} {token} {digest(conn)} {time.time_ns() // 1000000}\n"
    os.write(records, line.encode())
    conn.execute("COMMIT")


conn = sqlite3.connect(database, timeout=60, isolation_level=None)
conn.execute(f"PRAGMA synchronous = {chance.choice(['OFF', 'NORMAL', 'FULL'])}")
conn.execute(f"PRAGMA wal_autocheckpoint = {chance.choice([0, 20, 1000])}")
conn.execute(f"PRAGMA cache_size = {chance.choice([2, 10, 500])}")
while not os.path.exists(stop):
    transact(conn)
    mode = chance.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
    other = {0: "VACUUM", 1: "PRAGMA incremental_vacuum(30)", 2: f"PRAGMA wal_checkpoint({mode})"}
    statement = other.get(chance.randrange(60))
    if statement:
        conn.execute("PRAGMA busy_timeout = 5000")
        try:
            conn.execute(statement).fetchall()
        except sqlite3.OperationalError:
            pass  # Others hold its locks.
        conn.execute("PRAGMA busy_timeout = 60000")
    time.sleep(chance.randrange(5) / 1000)
