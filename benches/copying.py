#!/usr/bin/env python3
"""How fast `cts copy` moves a database to PostgreSQL and back, beside pgloader and psql, and how much memory each takes.

    python3 benches/copying.py [--rows N] [--runs N] [--dir FOLDER] [--cts FILE] [--json FILE]
    python3 benches/copying.py --pauses [--dir FOLDER]

One SQLite file, with N rows in indications_direction, is copied to one private server, which runs as an ordinary user with
its default settings, over TCP on loopback with a password. The sides take turns in alternating order, each into an empty
database of its own, after a checkpoint. What is timed, from exec to exit:

- `cts copy --to postgresql`, with its two readings of the file, the proof and the indexes;
- `pgloader`, which loads the rows into the tables of cts, without indexes, and then makes their keys and indexes;
- `psql`, which loads them by \\copy from CSV files, ready beforehand, and then does the same;
- `cts copy --to sqlite`, of what the first has made, into a new file.

A ratio is the median of the ratios of single turns. Memory is the most that the process had resident (VmHWM).
With --pauses: the time of a whole copy, there and back, for 10^5, 10^6 and 10^7 rows. Needs 10 GB there.
Goals are shown, not asserted.
"""

import argparse
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from backup import peak_memory
from measuring import ROOT, Failed, Row, Spread, environment, in_order, positive, print_table, shown, sync_time
from postgres import CTS, SCHEMA, TARGET, Server, server

FILL = """
    INSERT INTO exchange_connections (id, name) VALUES ('bybit-1', 'main'), ('okx-1', 'second');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    INSERT INTO indications_direction (connection_id, symbol, direction, signal_strength, profit_factor, confidence, status,
        metadata, calculated_at, updated_at)
    SELECT iif(i % 2, 'bybit-1', 'okx-1'), 'SYM' || (i % 200) || 'USDT', 'long', i / 7.0, i % 1000 / 300.0, i % 100 / 100.0,
        iif(i % 100, 'expired', 'active'), iif(i % 3, NULL, hex(randomblob(90))),
        strftime('%Y-%m-%d %H:%M:%f', 1.7e9 + i * 0.737, 'unixepoch'), strftime('%Y-%m-%d %H:%M:%f', 1.7e9 + i, 'unixepoch')
    FROM n;
"""
TABLES = ("exchange_connections", "indications_direction")
PAUSES = (100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True)
class Run:
    """One run of a program."""

    milliseconds: float
    peak_mib: float


def measured(argv: Sequence[object], env: dict[str, str]) -> Run:
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, argv)), env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        peak = peak_memory(process)
        took = (time.perf_counter() - start) * 1000
        said.seek(0)
        text = said.read()
    if process.returncode or " FATAL " in text or " ERROR " in text:
        raise Failed(f"{argv[0]}: ended with {process.returncode}: {text}")
    return Run(took, peak / 1024)


# The database, and what the others need of it


def fill(cts: Path, db: Path, rows: int) -> None:
    subprocess.run([cts, "migrate", "--quiet", "--db", db], env=environment(), check=True)
    with closing(sqlite3.connect(db)) as conn:
        conn.executescript("PRAGMA synchronous = OFF;" + FILL.format(rows=rows))
        conn.executescript("PRAGMA wal_checkpoint(TRUNCATE)")


def write_csv(db: Path, folder: Path) -> None:
    """The rows as CSV files, with all digits. An empty field is NULL; there are no empty texts."""
    with closing(sqlite3.connect(db)) as conn:
        for table in TABLES:
            with open(folder / f"{table}.csv", "w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(conn.execute(f"SELECT * FROM {table} ORDER BY id"))


class Definitions:
    """The tables of cts in PostgreSQL, and what is made after the rows: keys, indexes, foreign keys."""

    def __init__(self, on: Server):
        on.empty("as_made")
        script = "\n".join(file.read_text() for file in in_order(SCHEMA))
        on.sql("SET ROLE box", script, database="as_made")
        ask = lambda query: on.sql(query, database="as_made").splitlines()
        names = ", ".join(f"'{table}'::regclass" for table in TABLES)
        constraints = ask(f"""SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
            pg_get_constraintdef(oid)) || '|' || format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
            FROM pg_constraint WHERE conrelid IN ({names}) AND contype IN ('p', 'u', 'f') ORDER BY contype = 'f', oid""")
        indexes = ask(f"""SELECT indexdef || '|DROP INDEX ' || indexname FROM pg_indexes
            WHERE tablename IN ({", ".join(f"'{table}'" for table in TABLES)})
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname) ORDER BY indexname""")
        pairs = [line.split("|") for line in [*constraints, *indexes]]
        pairs.sort(key=lambda pair: "FOREIGN KEY" in pair[0])
        self.make = [pair[0] for pair in pairs]
        drop = [pair[1] for pair in reversed(pairs)]
        references = ask(f"""SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
            FROM pg_constraint WHERE confrelid IN ({names}) AND conrelid NOT IN ({names}) AND contype = 'f'""")
        on.empty("bare")
        on.sql("SET ROLE box", script, *references, *drop, database="bare")

    def bare(self, on: Server, database: str) -> None:
        """A database with the tables, and none of what is made after the rows."""
        on.sql(f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} OWNER box TEMPLATE bare")


def write_psql_script(folder: Path, made: Definitions) -> Path:
    copies = [f"\\copy {table} FROM '{folder}/{table}.csv' (FORMAT csv)" for table in TABLES]
    script = folder / "copy.sql"
    script.write_text("\n".join(["SET timezone = 'UTC';", "BEGIN;", *copies, *(f"{one};" for one in made.make), "COMMIT;\n"]))
    return script


def write_pgloader_commands(folder: Path, db: Path, url: str, made: Definitions) -> Path:
    after = ",\n".join(f"    $$ {one}; $$" for one in made.make)
    names = ", ".join(f"'{table}'" for table in TABLES)
    commands = folder / "copy.load"
    commands.write_text(f"""LOAD DATABASE FROM sqlite://{db} INTO {url.partition("?")[0]}
  WITH data only, create no tables, create no indexes, no foreign keys, no truncate, reset no sequences
  SET timezone TO 'UTC'
  CAST type timestamp to timestamptz drop default, type datetime to timestamptz drop default
  INCLUDING ONLY TABLE NAMES LIKE {names}
  AFTER LOAD DO
{after};
""")
    return commands


# Measuring


@dataclass
class Sides:
    """The programs, each ready to be run, in one folder on one server."""

    on: Server
    cts: Path
    db: Path
    back: Path

    def copy(self, to: str, db: Path, database: str) -> Run:
        words = [self.cts, "copy", "--to", to, "--quiet", "--db", db]
        return measured(words, environment(DATABASE_URL=self.on.url(database)))

    def forth(self) -> Run:
        self.on.empty("by_cts")
        self.on.sql("CHECKPOINT")
        return self.copy("postgresql", self.db, "by_cts")

    def back_again(self) -> Run:
        for file in self.back.parent.glob(self.back.name + "*"):
            file.unlink()
        os.sync()
        return self.copy("sqlite", self.back, "by_cts")


def others(sides: Sides, folder: Path, made: Definitions) -> dict[str, Callable[[], Run]]:
    write_csv(sides.db, folder)
    script = write_psql_script(folder, made)
    psql = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", script, sides.on.url("by_psql")]
    commands = write_pgloader_commands(folder, sides.db, sides.on.url("by_pgloader"), made)
    pgloader = ["pgloader", "--root-dir", folder / "pgloader", commands]

    def fresh(database: str, argv: Sequence[object]) -> Run:
        made.bare(sides.on, database)
        sides.on.sql("CHECKPOINT")
        return measured(argv, environment())

    return {
        "psql": lambda: fresh("by_psql", psql),
        "pgloader": lambda: fresh("by_pgloader", pgloader),
    }


def digest(on: Server, database: str) -> str:
    """What the sides must have made equal: rows, and the names of indexes and constraints."""
    names = ", ".join(f"'{table}'::regclass" for table in TABLES)
    return on.sql(
        "SET timezone = 'UTC'",
        "SELECT count(*), sum(hashtextextended(i::text, 0)::numeric) FROM indications_direction i",
        f"SELECT indexrelid::regclass::text COLLATE \"C\" FROM pg_index WHERE indrelid IN ({names}) ORDER BY 1",
        f"SELECT conname FROM pg_constraint WHERE conrelid IN ({names}) ORDER BY 1",
        database=database,
    )


def compare(sides: Sides, folder: Path, runs: int) -> tuple[list[Row], dict[str, list[Run]]]:
    made = Definitions(sides.on)
    programs = {"cts": sides.forth, "back": sides.back_again, **others(sides, folder, made)}
    order = [["cts", "back"], ["psql"], ["pgloader"]]
    figures: dict[str, list[Run]] = {name: [] for name in programs}
    for turn in range(runs + 1):
        for group in order if turn % 2 == 0 else reversed(order):
            for name in group:
                run = programs[name]()
                if turn:
                    figures[name].append(run)
                else:
                    print(f"{name}: {run.milliseconds:.0f} ms (not counted)", flush=True)
        if not turn:
            made_by = {name: digest(sides.on, f"by_{name}") for name in ("cts", "psql", "pgloader")}
            if len(set(made_by.values())) > 1:
                raise Failed(f"the three did not make the same rows, indexes and constraints: {made_by}")
    times = {name: [run.milliseconds for run in all_runs] for name, all_runs in figures.items()}
    peaks = {name: Spread.of([run.peak_mib for run in all_runs]) for name, all_runs in figures.items()}
    ratio = lambda ours, theirs: Spread.of([a / b for a, b in zip(times[ours], times[theirs])])
    row = lambda what, ours, theirs, goal: Row(
        what, "ms", Spread.of(times[ours]), Spread.of(times[theirs]), ratio(ours, theirs), goal
    )
    rows = [
        row("to PostgreSQL, against pgloader", "cts", "pgloader", 0.55),
        row("to PostgreSQL, against psql \\copy and the same indexes", "cts", "psql", 1.15),
        row("back to SQLite, against to PostgreSQL", "back", "cts", 1.0),
        Row("memory, to PostgreSQL, beside pgloader", "MiB", peaks["cts"], peaks["pgloader"], goal=64),
        Row("memory, to PostgreSQL, beside psql", "MiB", peaks["cts"], peaks["psql"], goal=64),
        Row("memory, back to SQLite", "MiB", peaks["back"], goal=64),
    ]
    return rows, figures


def pauses(on: Server, cts: Path, folder: Path) -> tuple[list[Row], dict[str, list[Run]]]:
    rows, figures = [], {}
    for count in PAUSES:
        db = folder / f"{count}.db"
        sides = Sides(on, cts, db, folder / "back.db")
        fill(cts, db, count)
        size = db.stat().st_size / (1 << 20)
        for what, run in (("to PostgreSQL", sides.forth()), ("back to SQLite", sides.back_again())):
            name = f"{count} rows, {size:.0f} MiB, {what}"
            figures[name] = [run]
            rows.append(Row(name, "ms", Spread.of([run.milliseconds])))
            rows.append(Row(f"{name}: memory", "MiB", Spread.of([run.peak_mib]), goal=64))
            print(f"{name}: {run.milliseconds / 1000:.1f} s, {run.peak_mib:.0f} MiB", flush=True)
        db.unlink()
    return rows, figures


def build(cts: Path) -> None:
    if cts == CTS:
        words = ["--release", "--locked", "--features", "postgres", "--target-dir", str(TARGET)]
        subprocess.run(["cargo", "build", "--quiet", *words], cwd=ROOT, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=1_000_000, metavar="N")
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="turns of each side (default: 5)")
    parser.add_argument("--pauses", action="store_true", help="the time of a copy for 10^5, 10^6 and 10^7 rows")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="(default: /var/tmp)")
    parser.add_argument("--cts", type=Path, default=CTS, metavar="FILE", help="a binary that is built already")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cts-bench-", dir=options.dir))
    try:
        build(options.cts)
        ours = folder / "files"
        with server(folder) as on:
            ours.mkdir()
            print(f"server:  {on.sql('SHOW server_version')}, 4 KiB write + fdatasync {shown(sync_time(folder), 'ms')}")
            print(f"machine: {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
            if options.pauses:
                rows, figures = pauses(on, options.cts, ours)
            else:
                sides = Sides(on, options.cts, ours / "cts.db", ours / "back.db")
                fill(options.cts, sides.db, options.rows)
                size = sides.db.stat().st_size / (1 << 20)
                print(f"rows:    {options.rows}, {size:.0f} MiB; {options.runs} turns of each side")
                rows, figures = compare(sides, ours, options.runs)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"copying.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(rows)
    if options.json:
        plain = {name: [asdict(run) for run in all_runs] for name, all_runs in figures.items()}
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "figures": plain}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
