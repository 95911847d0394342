#!/usr/bin/env python3
"""How fast and how small cts is, measured beside the sqlite3 shell and dbmate.

    python3 benches/first_run.py [--runs N] [--dir FOLDER] [--json FILE]

The sides of a comparison take turns within one run, in alternating order (A B, B A, ...), each on files of its own.
A ratio is the median of the ratios of single turns, so that whatever slows the machine for a while slows both sides.
Figures are medians, followed by the 10th and the 90th percentile in brackets. Times are those of whole processes, from
exec to exit, started without a shell. What is deleted or prepared between turns is not timed.

Goals are shown, not asserted: the exit code is 0 unless something could not be run at all. What needs a tool that is
not installed (dbmate from npm, strace, wrk) is shown as not measured.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CTS = ROOT / "target/release/cts"
TOOLS = ROOT / "target/bench"
SCHEMA = ROOT / "schema/sqlite"
HEALTH = "/api/health/database"
MEMORY_STARTS = 3
MEMORY_REQUESTS = 100
WRK_CLIENTS = 8
WRK_SECONDS = 3
GIVE_UP_AFTER = 30.0
COUNT_OBJECTS = "select count(*) from sqlite_schema"


class Failed(Exception):
    """A measured program failed."""


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        ordered = sorted(values)
        low, median, high = (ordered[round((len(ordered) - 1) * part)] for part in (0.1, 0.5, 0.9))
        return Spread(median, low, high)


@dataclass(frozen=True)
class Row:
    """A line of the table. The goal applies to the ratio if there is one, otherwise to the figure of cts."""

    what: str
    unit: str = ""
    ours: Spread | None = None
    theirs: Spread | None = None
    ratio: Spread | None = None
    goal: float | None = None
    not_measured: str | None = None

    @property
    def reached(self) -> bool | None:
        figure = self.ratio or self.ours
        return None if self.goal is None or figure is None else figure.median <= self.goal


def compared(what: str, ours: list[float], theirs: list[float], goal: float | None = None) -> Row:
    ratios = [one / other for one, other in zip(ours, theirs)]
    return Row(what, "ms", Spread.of(ours), Spread.of(theirs), Spread.of(ratios), goal)


def interleaved(sides: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Measures the sides in alternation, after one turn of each that is not counted."""
    for measure in sides.values():
        measure()
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs):
        for name in sides if turn % 2 == 0 else reversed(sides):
            figures[name].append(sides[name]())
    return figures


# Processes


def environment(**more: str) -> dict[str, str]:
    """The environment of the measured programs: none of the caller's settings."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **more}


def spawn(argv: Sequence[object], env: dict[str, str], stdin: object = os.devnull) -> int:
    """Starts a program; its standard error is that of the benchmark."""
    words = [str(word) for word in argv]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    return os.posix_spawnp(words[0], words, env, file_actions=files)


def milliseconds(argv: Sequence[object], env: dict[str, str], stdin: object = os.devnull) -> float:
    """The time from exec to exit."""
    start = time.perf_counter()
    _, status = os.waitpid(spawn(argv, env, stdin), 0)
    took = time.perf_counter() - start
    if code := os.waitstatus_to_exitcode(status):
        raise Failed(f"{' '.join(map(str, argv))}: ended with {code}")
    return took * 1000


def output(argv: Sequence[object]) -> str:
    done = subprocess.run(list(map(str, argv)), env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, argv))}: ended with {done.returncode}")
    return done.stdout.strip()


# Programs and their input


def build() -> None:
    if not CTS.exists():
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)


def install_dbmate() -> Path | None:
    """The binary, not the script by which npm starts it; None if it cannot be installed."""
    pattern = "node_modules/@dbmate/*/bin/dbmate"
    if not any(TOOLS.glob(pattern)) and shutil.which("npm"):
        TOOLS.mkdir(parents=True, exist_ok=True)
        quietly = ["--no-save", "--no-audit", "--no-fund", "--fetch-retries=1", "--silent"]
        subprocess.run(["npm", "install", "--prefix", str(TOOLS), *quietly, "dbmate"], check=False)
    return next(TOOLS.glob(pattern), None)


def write_script(folder: Path) -> Path:
    """The bundled statements for the sqlite3 shell."""
    statements = "\n".join(file.read_text() for file in in_order(SCHEMA))
    script = folder / "script.sql"
    script.write_text(f"PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\nBEGIN;\n{statements}\nCOMMIT;\n")
    return script


def in_order(schema: Path) -> list[Path]:
    """The files of a schema, in the order in which they are applied to an empty database."""
    return [
        schema / "unified_complete_setup.sql",
        *sorted(file for file in schema.glob("[0-9]*.sql") if not file.name.startswith("000")),
    ]


def write_dbmate_migrations(folder: Path, files: Sequence[Path]) -> Path:
    """The bundled statements for dbmate, one file per migration."""
    migrations = folder / "migrations"
    migrations.mkdir()
    for number, file in enumerate(files, 1):
        text = f"-- migrate:up\n{file.read_text()}\n-- migrate:down\n"
        (migrations / f"{number:03}_{file.name}").write_text(text)
    return migrations


def migrate(db: Path) -> list[object]:
    return [CTS, "migrate", "--quiet", "--db", db]


def check(db: Path) -> list[object]:
    return [CTS, "--check", "--db", db]


def sqlite_shell(db: Path, *words: str) -> list[object]:
    return ["sqlite3", "-batch", "-bail", db, *words]


def remove(db: Path) -> None:
    """Deletes a database with its side files and syncs the file system."""
    for file in db.parent.glob(db.name + "*"):
        file.unlink()
    folder = os.open(db.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def count_objects(db: Path) -> int:
    with closing(sqlite3.connect(db)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (count,) = connection.execute(COUNT_OBJECTS).fetchone()
    if mode != "wal":
        raise Failed(f"{db}: the journal mode is {mode}")
    return count


# First run, and nothing to do


def first_run(folder: Path, script: Path, dbmate: Path | None, runs: int) -> list[Row]:
    ours, shell, other = folder / "cts.db", folder / "sqlite3.db", folder / "dbmate.db"

    def fresh(db: Path, argv: Sequence[object], env: dict[str, str], stdin: object = os.devnull) -> float:
        remove(db)
        return milliseconds(argv, env, stdin)

    sides = {
        "cts": lambda: fresh(ours, migrate(ours), environment()),
        "sqlite3": lambda: fresh(shell, sqlite_shell(shell), environment(), script),
    }
    if dbmate:
        migrations = write_dbmate_migrations(folder, in_order(SCHEMA))
        url = environment(DATABASE_URL=f"sqlite:{other}")
        up = [dbmate, "--env-file", folder / "none", "--migrations-dir", migrations, "--no-dump-schema", "up"]
        sides["dbmate"] = lambda: fresh(other, up, url)
    took = interleaved(sides, runs)
    if count_objects(ours) != count_objects(shell):
        raise Failed("cts and the sqlite3 shell did not make the same tables and indexes")

    rows = [compared("first run, against sqlite3", took["cts"], took["sqlite3"], goal=0.8)]
    what = "first run, against dbmate up"
    if dbmate:
        rows.append(compared(what, took["cts"], took["dbmate"]))
    else:
        rows.append(Row(what, not_measured="npm cannot install dbmate"))
    return rows


def nothing_to_do(folder: Path, runs: int) -> list[Row]:
    by_migrate, by_check, by_shell = (folder / f"idle-{name}.db" for name in ("migrate", "check", "sqlite3"))
    milliseconds(migrate(by_migrate), environment())
    for copy in (by_check, by_shell):
        shutil.copy(by_migrate, copy)
    took = interleaved(
        {
            "migrate": lambda: milliseconds(migrate(by_migrate), environment()),
            "check": lambda: milliseconds(check(by_check), environment()),
            "sqlite3": lambda: milliseconds(sqlite_shell(by_shell, COUNT_OBJECTS), environment()),
        },
        runs,
    )
    return [
        compared("migrate with nothing to do", took["migrate"], took["sqlite3"], goal=1.3),
        compared("--check", took["check"], took["sqlite3"], goal=1.3),
    ]


# Syncs and bytes


@dataclass(frozen=True)
class Traffic:
    """Disk operations of a program: syncs of any file, bytes written to the database, its WAL and its journal."""

    syncs: int
    written: int


SYNC = re.compile(r"(fsync|fdatasync|sync_file_range|syncfs|sync)\(")
WRITE = re.compile(r"p?write\w*\(\d+<(?P<path>[^>]*)>.*\) += (?P<bytes>\d+)$")


def traced(folder: Path, db: Path, argv: Sequence[object], stdin: object = os.devnull) -> Traffic | None:
    """Runs a program under strace, which writes one file per thread; None if it cannot be traced."""
    trace = folder / "trace"
    calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,write,pwrite64,writev,pwritev,pwritev2"
    strace = ["strace", "-ff", "-qq", "-y", "-s", "0", "-e", calls, "-o", trace]
    try:
        milliseconds([*strace, *argv], environment(), stdin)
    except (FileNotFoundError, Failed):
        return None
    files = list(folder.glob("trace.*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    for file in files:
        file.unlink()
    kept = {f"{db}{suffix}" for suffix in ("", "-wal", "-journal")}
    unnamed = f"{db.parent}/#"  # a temporary file without a name, linked to its path when it is complete
    writes = [
        match
        for match in map(WRITE.match, lines)
        if match and (match["path"] in kept or match["path"].startswith(unnamed))
    ]
    return Traffic(sum(bool(SYNC.match(line)) for line in lines), sum(int(match["bytes"]) for match in writes))


def traffic(folder: Path, script: Path) -> list[Row]:
    ours, shell = folder / "traced-cts.db", folder / "traced-sqlite3.db"
    first, theirs = traced(folder, ours, migrate(ours)), traced(folder, shell, sqlite_shell(shell), script)
    again, looked = traced(folder, ours, migrate(ours)), traced(folder, ours, check(ours))
    names = [f"{what}, syncs" for what in ("first run", "migrate with nothing to do", "--check")]
    if not (first and theirs and again and looked):
        return [Row(name, not_measured="strace cannot trace here") for name in names]

    def exact(figure: float) -> Spread:
        return Spread.of([figure])

    return [
        Row(names[0], "", exact(first.syncs), exact(theirs.syncs), goal=10),
        Row(names[1], "", exact(again.syncs), goal=0),
        Row(names[2], "", exact(looked.syncs), goal=0),
        Row("first run, written", "KiB", exact(first.written / 1024), exact(theirs.written / 1024)),
        Row("migrate with nothing to do, written", "KiB", exact(again.written / 1024)),
    ]


# The server


def unused_port() -> int:
    """A free port on which no connection has lately been closed: a client that meets one in TIME_WAIT retries 10 ms
    later. It is below the range of ephemeral ports, because a client that connects to an ephemeral port before the
    server listens can end up connected to itself."""
    lowest_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lowest_of_clients - 1, 1024, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise Failed("no port is free on 127.0.0.1")


def answers_200(port: int, path: str) -> bool:
    with socket.socket() as client:
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            reply = b""
            while piece := client.recv(65536):
                reply += piece
        except OSError:
            return False
    return reply.startswith(b"HTTP/1.1 200 ")


@dataclass(frozen=True)
class Server:
    """A running cts, ready or not."""

    pid: int
    port: int
    started: float

    def await_200(self, path: str) -> float:
        """Repeats a request until the answer is 200; returns the time since exec, in milliseconds."""
        deadline = self.started + GIVE_UP_AFTER
        while not answers_200(self.port, path):
            has_ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if has_ended or time.perf_counter() > deadline:
                raise Failed(f"cts serve: {path} was never answered with 200")
        return (time.perf_counter() - self.started) * 1000

    def resident(self, field: str) -> float:
        """A figure of /proc/PID/status, in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise Failed(f"/proc/{self.pid}/status has no {field}")


@contextmanager
def serving(db: Path) -> Iterator[Server]:
    """A server, yielded right after exec. At the end it gets SIGTERM and must exit with 0."""
    port = unused_port()
    argv = [CTS, "serve", "--quiet", "--db", db, "--port", port]
    started = time.perf_counter()
    server = Server(spawn(argv, environment()), port, started)
    try:
        yield server
    finally:
        os.kill(server.pid, signal.SIGTERM)
        _, status = os.waitpid(server.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise Failed(f"cts serve: ended with {code}")


def time_to_200(db: Path) -> float:
    with serving(db) as server:
        return server.await_200(HEALTH)


def starts(folder: Path, runs: int) -> list[Row]:
    existing, new = folder / "existing.db", folder / "new.db"

    def start_anew() -> float:
        remove(new)
        return time_to_200(new)

    took = interleaved({"existing": lambda: time_to_200(existing), "new": start_anew}, runs)
    return [
        Row("exec to first 200, existing database", "ms", Spread.of(took["existing"]), goal=15),
        Row("exec to first 200, new database", "ms", Spread.of(took["new"])),
    ]


def memory_of(db: Path, *, is_new: bool) -> list[Row]:
    fields = {"VmRSS": 6, "RssAnon": None}
    idle: dict[str, list[float]] = {field: [] for field in fields}
    asked: dict[str, list[float]] = {field: [] for field in fields}
    for _ in range(MEMORY_STARTS):
        if is_new:
            remove(db)
        with serving(db) as server:
            server.await_200("/readyz")
            time.sleep(2)
            for field, figures in idle.items():
                figures.append(server.resident(field))
            for _ in range(MEMORY_REQUESTS):
                if not answers_200(server.port, HEALTH):
                    raise Failed(f"cts serve: {HEALTH} was not answered with 200")
            for field, figures in asked.items():
                figures.append(server.resident(field))
    which = "new" if is_new else "existing"
    return [
        Row(f"server, {which} database, {when}: {field}", "MiB", Spread.of(figures[field]), goal=goal)
        for when, figures in (("idle", idle), (f"{MEMORY_REQUESTS} requests later", asked))
        for field, goal in fields.items()
    ]


def memory(folder: Path) -> list[Row]:
    db = folder / "memory.db"
    return [*memory_of(db, is_new=True), *memory_of(db, is_new=False)]


def size() -> Row:
    return Row("binary", "MiB", Spread.of([CTS.stat().st_size / (1 << 20)]), goal=4)


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def load(folder: Path) -> list[Row]:
    name = f"health, {WRK_CLIENTS} clients, a connection each"
    if not shutil.which("wrk"):
        return [Row(name, not_measured="wrk is not installed")]
    with serving(folder / "load.db") as server:
        server.await_200("/readyz")
        close = ["-H", "Connection: close"]
        clients = ["-t1", f"-c{WRK_CLIENTS}", f"-d{WRK_SECONDS}s", "--latency"]
        told = output(["wrk", *clients, *close, f"http://127.0.0.1:{server.port}{HEALTH}"])
    rate = re.search(r"Requests/sec: +([\d.]+)", told)
    tail = re.search(r" 99% +([\d.]+)(us|ms|s|m)\b", told)
    # wrk counts a connection that is closed after its answer as a read error; it is none.
    broken = re.search(r"connect [1-9]|write [1-9]|timeout [1-9]|Non-2xx", told)
    if not rate or not tail or broken:
        raise Failed(f"wrk: {told}")
    return [
        Row(f"{name}: requests", "/s", Spread.of([float(rate[1])])),
        Row(f"{name}: p99", "ms", Spread.of([float(tail[1]) * UNITS[tail[2]]])),
    ]


# The machine


def file_system(folder: Path) -> str:
    """Type and device of the file system of a directory."""
    best, found = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, (kind, device, *_) = line.split()[4], line.split(" - ")[1].split()
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, found = mount, f"{kind} ({device})"
    return found


def sync_time(folder: Path) -> Spread:
    """Time of a write and fsync of one page, which dominates a first run on a slow disk."""
    page, took = os.urandom(4096), []
    with open(folder / "page", "wb", buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    return Spread.of(took)


def machine(folder: Path, dbmate: Path | None) -> dict[str, str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {cpu[1] if cpu else platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.2f} before the run",
        "files": f"{folder.parent} on {file_system(folder)}, 4 KiB write + fdatasync {shown(sync_time(folder), 'ms')}",
        "cts": output([CTS, "--version"]).split()[-1],
        "sqlite3": output(["sqlite3", "--version"]).split()[0],
        "dbmate": output([dbmate, "--version"]).split()[-1] if dbmate else "none",
    }


# The table


def number(value: float) -> str:
    return f"{value:.0f}" if isinstance(value, int) or value >= 100 else f"{value:.2f}"


def shown(spread: Spread | None, unit: str = "") -> str:
    if spread is None:
        return "-"
    text = f"{number(spread.median)} {unit}".rstrip()
    varies = spread.low != spread.high
    return f"{text} ({number(spread.low)}..{number(spread.high)})" if varies else text


def cells(row: Row) -> list[str]:
    if row.not_measured:
        return [row.what, f"not measured: {row.not_measured}", "-", "-", "-", "-"]
    goal = "-" if row.goal is None else f"{'ratio ' if row.ratio else ''}<= {row.goal:g}"
    reached = {None: "-", True: "yes", False: "no"}[row.reached]
    return [row.what, shown(row.ours, row.unit), shown(row.theirs, row.unit), shown(row.ratio), goal, reached]


def print_table(rows: Sequence[Row]) -> None:
    lines = [["what", "ours", "theirs", "ratio", "goal", "reached"], *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def measure(folder: Path, runs: int) -> tuple[dict[str, str], list[Row]]:
    dbmate = install_dbmate()
    about = machine(folder, dbmate)
    script = write_script(folder)
    rows = [
        *first_run(folder, script, dbmate, runs),
        *traffic(folder, script),
        *nothing_to_do(folder, runs),
        size(),
        *memory(folder),
        *starts(folder, runs),
        *load(folder),
    ]
    return about, rows


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=positive, default=50, metavar="N", help="turns of each side (default: 50)")
    parser.add_argument(
        "--dir", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="for the databases (default: /var/tmp)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    try:
        build()
        with tempfile.TemporaryDirectory(prefix="cts-bench-", dir=options.dir) as folder:
            about, rows = measure(Path(folder).resolve(), options.runs)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"first_run.py: {error}", file=sys.stderr)
        return 1
    about["runs"] = f"{options.runs} turns of each side; median (10th..90th percentile)"
    for name, value in about.items():
        print(f"{name + ':':<9}{value}")
    print()
    print_table(rows)
    if options.json:
        figures = [{**asdict(row), "reached": row.reached} for row in rows]
        options.json.write_text(json.dumps({"about": about, "rows": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
