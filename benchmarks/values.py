"""Custom values: the rate of GET through the gateway, relative to bare Litestar handlers, in one run.

    python benchmarks/values.py [--seconds 10] [--rounds 3] [--connections 64]

One PostgreSQL query answers two fields of one of 1,000 customers. The bare handler runs the same query with asyncpg;
where the gateway caches, it is an empty handler. The server runs on one core and the load on another; PostgreSQL
(`GATEWAY_TEST_POSTGRESQL`) is not bound to a core. Ratios are taken within a round; the figure is their median.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from floors import serve
from post import LOAD_CORE, Subject, free_port, gateway
from sqlalchemy import make_url

from gateway.config.load import load_config
from gateway.http import tokens

HERE = Path(__file__).parent
URL = os.environ.get("GATEWAY_TEST_POSTGRESQL", "postgresql+asyncpg://root@127.0.0.1:5432/test")
CUSTOMERS = 1000
POOL = 10
RATE = 200
TABLE = f"bench_{secrets.token_hex(4)}"
PATH = "/webio?customerUID={}&outboundChannelAddress=44777777777&param1=balance&param2=ID"


def dsn() -> str:
    return make_url(URL).set(drivername="postgresql").render_as_string(hide_password=False)


def floor(kind: str, table: str) -> Any:
    """`empty` returns two constants; `asyncpg` runs the query on a pool and returns its row."""
    from litestar import Litestar, get
    from litestar.datastructures import State

    @get("/webio")
    async def empty() -> dict[str, str]:
        return {"balance": "120.50", "ID": "ID-4711"}

    @get("/webio")
    async def asking(state: State, customerUID: str, param1: str, param2: str) -> dict[str, str]:
        row = await state.pool.fetchrow(f"SELECT balance, id FROM {table} WHERE uid = $1", customerUID)
        return {param1: str(row[0]), param2: row[1]}

    @contextlib.asynccontextmanager
    async def pool(app: Litestar) -> Any:
        async with asyncpg.create_pool(dsn(), min_size=POOL, max_size=POOL) as app.state.pool:
            yield

    if kind == "empty":
        return Litestar([empty], openapi_config=None)
    return Litestar([asking], lifespan=[pool], openapi_config=None)


def config(cache: str) -> str:
    sql = f'SELECT balance, id AS \\"ID\\" FROM {TABLE} WHERE uid = :customer_uid'
    return (
        f'[values]\ncache = "{cache}"\n'
        f'[plugins.sql_values]\nurl = {{ env = "BENCH_URL" }}\npool_size = {POOL}\n'
        f'[[plugins.sql_values.queries]]\nsql = "{sql}"\n'
    )


async def make_table() -> None:
    connection = await asyncpg.connect(dsn())
    await connection.execute(f"CREATE TABLE {TABLE} (uid text PRIMARY KEY, balance numeric(12,2), id text)")
    rows = [(str(100_000 + n), n, f"ID-{n}") for n in range(CUSTOMERS)]
    await connection.copy_records_to_table(TABLE, records=rows)
    await connection.execute(f"ANALYZE {TABLE}")
    await connection.close()


async def drop_table() -> None:
    connection = await asyncpg.connect(dsn())
    await connection.execute(f"DROP TABLE {TABLE}")
    await connection.close()


def wrk(token: str, subject: Subject, connections: int, seconds: float) -> dict[str, float]:
    before = cpu_seconds(subject)
    done = subprocess.run(
        [
            *("taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"),
            *("-s", str(HERE / "values.lua"), f"http://127.0.0.1:{subject.port}"),
        ],
        env={**os.environ, "TOKEN": token, "CUSTOMERS": str(CUSTOMERS)},
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    if figures["not_2xx"] or figures["failed"]:
        print(f"  {subject.name}: {figures['not_2xx']} answers were not 2xx, {figures['failed']} failed")
    busy_us = (cpu_seconds(subject) - before) / figures["requests"] * 1e6
    return {**figures, "rate": figures["requests"] / figures["seconds"], "busy_us": busy_us}


def cpu_seconds(subject: Subject) -> float:
    """Processor time of the server's processes so far, which other work on the machine hardly changes."""
    top = psutil.Process(subject.process.pid)
    times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


async def paced(token: str, port: int, seconds: float) -> float:
    """The 99th percentile in milliseconds at `RATE` requests a second, counted from when each was due."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
    free: asyncio.Queue[Any] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        reader, writer = connection = await free.get()
        path = PATH.format(100_000 + number % CUSTOMERS)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nx-webio-token: {token}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        took.append((time.perf_counter() - due) * 1000)
        free.put_nowait(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * RATE)):
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(number, due))
    for _, writer in connections:
        writer.close()
    return statistics.quantiles(took, n=100)[98]


def run(folder: Path, options: argparse.Namespace) -> None:
    os.environ["BENCH_URL"] = URL
    (folder / "floors").mkdir()
    ports = {kind: free_port() for kind in ("empty", "asyncpg")}
    floors = {
        kind: Subject(kind, [sys.executable, __file__, "--floor", kind, TABLE, str(port)], port, folder / "floors")
        for kind, port in ports.items()
    }
    plain, _ = gateway("gateway", folder / "plain", config("0s"))
    cached, _ = gateway("gateway-cached", folder / "cached", config("1h"))
    subjects = [floors["asyncpg"], plain, floors["empty"], cached]
    token = tokens.mint(load_config(folder / "plain/config.toml").organisations["acme"])
    rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    medians: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    busy: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    try:
        for subject in subjects:
            wrk(token, subject, options.connections, 1)
        for number in range(options.rounds):
            for subject in subjects:
                figures = wrk(token, subject, options.connections, options.seconds)
                rates[subject.name].append(figures["rate"])
                busy[subject.name].append(figures["busy_us"])
                medians[subject.name].append(wrk(token, subject, 1, max(1, options.seconds // 3))["p50_ms"])
            shown = {"requests/s": (rates, 0), "p50 ms": (medians, 3), "processor us each": (busy, 0)}
            for what, (of, digits) in shown.items():
                print(f"round {number + 1}, {what}:", {name: round(values[-1], digits) for name, values in of.items()})
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        tails = {
            subject.name: asyncio.run(paced(token, subject.port, options.seconds))
            for subject in (plain, floors["asyncpg"])
        }
    finally:
        for subject in subjects:
            subject.stop()

    def ratio(over: Subject, under: Subject) -> float:
        return statistics.median(a / b for a, b in zip(rates[over.name], rates[under.name], strict=True))

    added = statistics.median(a - b for a, b in zip(medians["gateway"], medians["asyncpg"], strict=True))
    print(f"GET with one PostgreSQL query over a Litestar handler with asyncpg: {ratio(plain, floors['asyncpg']):.2f}")
    print(f"p50 added, one connection: {added:.3f} ms")
    print(f"p99 at {RATE} requests/s: {tails['gateway']:.2f} ms (bare handler: {tails['asyncpg']:.2f} ms)")
    spent = statistics.median(a / b for a, b in zip(busy["asyncpg"], busy["gateway"], strict=True))
    print(f"the same in processor time, which other work on the machine hardly changes: {spent:.2f}")
    print(f"cached, over an empty Litestar handler: {ratio(cached, floors['empty']):.2f}")


def main() -> None:
    if sys.argv[1:2] == ["--floor"]:
        kind, table, port = sys.argv[2:]
        serve(floor(kind, table), int(port))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    asyncio.run(make_table())
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            run(Path(folder), options)
    finally:
        asyncio.run(drop_table())


if __name__ == "__main__":
    main()
