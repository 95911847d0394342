"""What the benchmarks share: figures and their comparison, processes, dbmate, the table that is printed."""

import argparse
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target/bench"
HEALTH = "/api/health/database"


# Figures


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


# Programs and their input


def install_dbmate() -> Path | None:
    """The binary, not the script by which npm starts it; None if it cannot be installed."""
    pattern = "node_modules/@dbmate/*/bin/dbmate"
    if not any(TOOLS.glob(pattern)) and shutil.which("npm"):
        TOOLS.mkdir(parents=True, exist_ok=True)
        quietly = ["--no-save", "--no-audit", "--no-fund", "--fetch-retries=1", "--silent"]
        subprocess.run(["npm", "install", "--prefix", str(TOOLS), *quietly, "dbmate"], check=False)
    return next(TOOLS.glob(pattern), None)


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


def remove(db: Path) -> None:
    """Deletes a database with its side files and syncs the file system."""
    for file in db.parent.glob(db.name + "*"):
        file.unlink()
    folder = os.open(db.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


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


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
