#!/usr/bin/env python3
"""How fast cts is on PostgreSQL, measured beside psql and dbmate on one private server.

    python3 benches/postgres.py [--runs N] [--dir FOLDER]

The sides take turns within one run, in alternating order, each on an empty database of its own, over TCP on loopback
with a password. Figures and ratios are those of first_run.py. The server is started from the installed programs as an
ordinary user, with its default settings, and ended afterwards.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    HEALTH,
    ROOT,
    Failed,
    Row,
    Spread,
    answers_200,
    compared,
    environment,
    in_order,
    install_dbmate,
    interleaved,
    milliseconds,
    output,
    positive,
    print_table,
    shown,
    sync_time,
    unused_port,
    write_dbmate_migrations,
)

TARGET = ROOT / "target/postgres"
CTS = TARGET / "release/cts"
SCHEMA = ROOT / "schema/postgres"
NOBODY = 65534
RESTARTS = 5
COUNT = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND relname NOT LIKE 'schema_migrations%'"


def programs() -> Path:
    """The directory of the newest installed server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Failed("no PostgreSQL server is installed (Debian: postgresql)")
    return found[-1].parent


@dataclass(frozen=True)
class Server:
    """A private server and the user that it runs as."""

    folder: Path
    port: int
    user: int | None

    def run(self, program: str, *words: object) -> None:
        argv = [str(programs() / program), *map(str, words)]
        done = subprocess.run(argv, user=self.user, group=self.user, extra_groups=[] if self.user else None,
                              cwd=self.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if done.returncode:
            raise Failed(f"{program}: {done.stdout}")

    def start(self) -> None:
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", self.folder / "log", "-o", settings)

    def stop(self, mode: str) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.folder / "data")

    def sql(self, *statements: str, database: str = "postgres") -> str:
        statements = ("SET client_min_messages = warning", *statements)
        commands = [word for statement in statements for word in ("-c", statement)]
        return output(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", self.port, "-U", "postgres",
                       *commands, database])

    def url(self, database: str) -> str:
        return f"postgresql://box:secret@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def empty(self, database: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} OWNER box")


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    user = NOBODY if os.geteuid() == 0 else None
    if user:
        os.chown(folder, user, user)
    here = Server(folder, unused_port(), user)
    here.run("initdb", "-D", folder / "data", "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
    here.start()
    try:
        here.sql("CREATE ROLE box LOGIN PASSWORD 'secret'")
        yield here
    finally:
        here.stop("immediate")


def cts(on: Server, database: str, *words: str) -> float:
    return milliseconds([CTS, "--quiet", *words], environment(DATABASE_URL=on.url(database)))


def first_run(on: Server, dbmate: Path | None, runs: int) -> list[Row]:
    script = on.folder / "script.sql"
    script.write_text("\n".join(file.read_text() for file in in_order(SCHEMA)))

    def fresh(database: str, measure: Callable[[], float]) -> float:
        on.empty(database)
        return measure()

    psql = ["psql", "-Xq", "-1", "-v", "ON_ERROR_STOP=1", "-f", script, on.url("by_psql")]
    sides = {
        "cts": lambda: fresh("by_cts", lambda: cts(on, "by_cts", "migrate")),
        "psql": lambda: fresh("by_psql", lambda: milliseconds(psql, environment())),
    }
    if dbmate:
        folder = write_dbmate_migrations(on.folder, in_order(SCHEMA))
        up = [dbmate, "--env-file", on.folder / "none", "--migrations-dir", folder, "--no-dump-schema", "up"]
        sides["dbmate"] = lambda: fresh(
            "by_dbmate", lambda: milliseconds(up, environment(DATABASE_URL=on.url("by_dbmate")))
        )
    took = interleaved(sides, runs)
    if on.sql(COUNT, database="by_cts") != on.sql(COUNT, database="by_psql"):
        raise Failed("cts and psql did not make the same tables and indexes")
    rows = [compared("first run, against psql -1 -f", took["cts"], took["psql"], goal=1.0)]
    what = "first run, against dbmate up"
    if dbmate:
        return [*rows, compared(what, took["cts"], took["dbmate"], goal=1.0)]
    return [*rows, Row(what, not_measured="npm cannot install dbmate")]


def nothing_to_do(on: Server, runs: int) -> list[Row]:
    psql = ["psql", "-Xq", "-c", "SELECT count(*) FROM migrations", on.url("by_cts")]
    took = interleaved(
        {
            "migrate": lambda: cts(on, "by_cts", "migrate"),
            "check": lambda: cts(on, "by_cts", "--check"),
            "psql": lambda: milliseconds(psql, environment()),
        },
        runs,
    )
    return [
        compared("migrate with nothing to do, against psql with one question", took["migrate"], took["psql"]),
        compared("--check, against psql with one question", took["check"], took["psql"]),
    ]


def restarts(on: Server) -> Row:
    """The time from the server accepting connections again to the first healthy answer of a running cts."""
    port = unused_port()
    words = [str(CTS), "serve", "--quiet", "--port", str(port)]
    running = subprocess.Popen(words, env=environment(DATABASE_URL=on.url("by_cts")), stderr=subprocess.DEVNULL)
    took = []
    try:
        await_until(lambda: answers_200(port, HEALTH))
        for _ in range(RESTARTS):
            on.stop("immediate")
            if answers_200(port, HEALTH):
                raise Failed("cts is healthy without a server")
            on.start()
            start = time.perf_counter()
            await_until(lambda: answers_200(port, HEALTH))
            took.append((time.perf_counter() - start) * 1000)
    finally:
        running.terminate()
        running.wait()
    return Row("server back to first healthy answer", "ms", Spread.of(took), goal=2000)


def await_until(is_so: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 30
    while not is_so():
        if time.perf_counter() > deadline:
            raise Failed("cts serve was never healthy")
        time.sleep(0.005)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=positive, default=30, metavar="N", help="turns of each side (default: 30)")
    parser.add_argument(
        "--dir", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="for the server (default: /var/tmp)"
    )
    options = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--features", "postgres", "--target-dir", str(TARGET)]
    folder = Path(tempfile.mkdtemp(prefix="cts-bench-", dir=options.dir))
    try:
        subprocess.run(build, cwd=ROOT, check=True)
        dbmate = install_dbmate()
        with server(folder) as on:
            print(f"server:  {on.sql('SHOW server_version')}, 4 KiB write + fdatasync {shown(sync_time(folder), 'ms')}")
            print(f"runs:    {options.runs} turns of each side; median (10th..90th percentile)\n")
            rows = [*first_run(on, dbmate, options.runs), *nothing_to_do(on, options.runs), restarts(on)]
        rows.append(Row("binary with the feature", "MiB", Spread.of([CTS.stat().st_size / (1 << 20)])))
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"postgres.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
