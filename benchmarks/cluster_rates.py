"""Rates of gateways on a PostgreSQL journal, for `cluster.py`: beside the journal in a file, with more gateways, and
with a large journal."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from network import Host
from nodes import Node
from servers import DATABASE, Server
from whole_cluster import Cluster

# isort: split
from machine import free_ports

from gateway.http.tokens import mint
from gateway.journal import open_reader
from gateway.journal.interface import Filter

HERE: Final = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS: Final = 64
SLEEPING: Final = """
[plugins.spread{number}]
use = "recorder"
from = "start"
shards = 8
takes = 0.02
"""
WAITING: Final = 16_000
"""Events that wait for the plugin of each measurement; three gateways take about 600 a second."""
_IDLE: Final = """
SELECT count(*) FROM cursors c WHERE plugin = '{plugin}' AND seq = (SELECT seq FROM head) AND NOT EXISTS (
    SELECT FROM parked p WHERE p.plugin = c.plugin AND p.bucket % 8 = c.shard AND p.state IN ('waiting', 'retrying'))
"""
"""How many shards have nothing left to deliver."""
EACH_CUSTOMER: Final = 10
SMALL: Final = 10_000
"""Events of the journal that a large one is compared with."""
_FILL: Final = """
INSERT INTO events (seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict,
    created, digest, natural_key, name, address, bucket, node, raw)
SELECT n, gen_random_uuid(), now() - interval '20 days' + n * interval '20 days' / {until}, 'acme', 'inbound-message',
    'c' || n / 5, 'u' || n / {each}, true, false,
    (extract(epoch FROM now()) * 1000000)::bigint - ({until} - n) * 1000,
    decode(md5(n::text) || md5((-n)::text), 'hex'), decode(md5('k' || n), 'hex'), NULL, '4477' || n / {each}, n % 64,
    'gw', convert_to(json_build_object('type', 'inboundMessage', 'conversationId', 'c' || n / 5,
        'communicationActionId', n::text, 'customerUID', 'u' || n / {each}, 'outboundChannelAddress',
        '4477' || n / {each}, 'inboundChannelAddress', 'WhatsApp', 'dateCreated', '2026-01-28 10:00:00',
        'body', repeat(md5(n::text), 12))::text, 'UTF8')
FROM generate_series({after} + 1, {until}) n
"""


@contextmanager
def server() -> Iterator[Server]:
    """A PostgreSQL of its own on a disk, without a standby."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-", dir="/var/tmp"))
    folder.chmod(0o755)
    primary = Server(Host("db", "127.0.0.1"), folder / "db", free_ports(1)[0])
    try:
        primary.make()
        with (primary.data / "postgresql.conf").open("a") as file:
            file.write("shared_buffers = 1GB\nmax_wal_size = 8GB\n")  # as a server of its own would have
        primary.start()
        primary.ask(f"CREATE DATABASE {DATABASE}", database="postgres")
        yield primary
    finally:
        primary.kill()
        shutil.rmtree(folder)


@contextmanager
def one_gateway(folder: Path, journal: str) -> Iterator[Node]:
    """A gateway on a core of its own, without plugins."""
    host = Host(folder.name, "127.0.0.1", ("taskset", "-c", SERVER_CORE))
    public, admin = free_ports(2)
    node = Node(host, folder, (public, admin), journal, "")
    try:
        node.start()
        node.wait_for_words("gateway: webhooks at ")
        yield node
        node.terminate()
    finally:
        node.kill()


def journal_in(primary: Server) -> str:
    return f'url = "postgresql://{DATABASE}@127.0.0.1:{primary.port}/{DATABASE}"'


def flood(node: Node, seconds: float) -> tuple[float, float]:
    """As many events as go, by wrk from the other core: events a second, and the 99th percentile in ms."""
    environment = {
        "TOKEN": mint(node.config.organisations["acme"]),
        "START": str(int(time.time() * 1000) % 10**8 * 10_000),
    }
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", "-s", str(HERE / "load.lua")]
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *wrk, f"http://{node.host.listen}:{node.port}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert not figures["not_2xx"] and not figures["failed"], figures
    return figures["requests"] / figures["seconds"], figures["p99_ms"]


def compare_engines(folder: Path, rounds: int, say: Callable[[str], None]) -> tuple[float, float]:
    """Rate and 99th percentile of the PostgreSQL engine, over those of the journal in a file: medians of the rounds."""
    rates, p99s = [], []
    with ExitStack() as stack:
        primary = stack.enter_context(server())
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        in_file = stack.enter_context(one_gateway(disk / "sqlite", 'path = "var/journal.db"'))
        in_database = stack.enter_context(one_gateway(folder / "postgresql", journal_in(primary)))
        for node in (in_file, in_database):
            flood(node, 2)
        for number in range(rounds):
            (rate, p99), (base, base_p99) = flood(in_database, 8), flood(in_file, 8)
            rates.append(rate / base)
            p99s.append(p99 / base_p99)
            say(f"{number + 1}: PostgreSQL {rate:.0f}/s, p99 {p99:.1f} ms; SQLite {base:.0f}/s, p99 {base_p99:.1f} ms")
    return statistics.median(rates), statistics.median(p99s)


def spread_delivery(folder: Path, say: Callable[[str], None], *, window: float = 8.0) -> list[float]:
    """Deliveries a second to a plugin that takes 20 ms for an event, with one, two and three gateways: each time to
    another instance, which begins with the first of the events that are there."""
    found: list[float] = []
    with Cluster(folder, text="", plugins=()) as cluster:
        cluster.start()
        while (kept := int(cluster.ask("SELECT seq FROM head"))) < WAITING:
            flood(cluster.nodes[0], 2)
        for node in cluster.nodes:
            node.terminate()
        say(f"{kept} events wait")
        for number in (1, 2, 3):
            name, nodes = f"spread{number}", cluster.nodes[:number]
            for node in nodes:
                node.configure(SLEEPING.format(number=number))
                node.start()
            cluster.wait_shards(name, number)
            began = time.monotonic()
            time.sleep(window)
            times = [one.at for node in nodes for one in node.deliveries() if one.plugin == name]
            idle = cluster.ask(_IDLE.format(plugin=name))
            assert idle == "0", f"{idle} shards have caught up: too few events for a measurement"
            found.append(sum(began <= at < began + window for at in times) / window)
            say(f"{number} gateways: {found[-1]:.0f} deliveries a second")
            for node in nodes:
                node.terminate()
    return found


def look(node: Node, customer: str) -> tuple[float, float]:
    """What `gateway events --customer` looks up, with its connection: milliseconds, and those of this process's
    processor time; medians of eleven."""
    times, processor = [], []
    for _ in range(11):
        began, used = time.perf_counter(), time.process_time()
        with closing(open_reader(node.config)) as reader:
            assert len(list(reader.events(Filter(customer=customer)))) == EACH_CUSTOMER
        times.append((time.perf_counter() - began) * 1000)
        processor.append((time.process_time() - used) * 1000)
    return statistics.median(times), statistics.median(processor)


def flat(folder: Path, events: int, say: Callable[[str], None]) -> tuple[float, float]:
    """The rate with `events` in the journal over that with ten thousand, and the milliseconds to look up a customer
    then. Both of journals that are measured in turn."""
    with ExitStack() as stack:
        nodes: dict[int, Node] = {}
        for count in (SMALL, events):
            primary = stack.enter_context(server())
            with one_gateway(folder / f"make-{count}", journal_in(primary)):
                pass
            began = time.monotonic()
            _fill(primary, count)
            say(f"{count} events made in {time.monotonic() - began:.0f} s")
            nodes[count] = stack.enter_context(one_gateway(folder / f"journal-{count}", journal_in(primary)))
            flood(nodes[count], 2)
        ratios = []
        for number in range(5):
            small, large = flood(nodes[SMALL], 6), flood(nodes[events], 6)
            ratios.append(large[0] / small[0])
            say(f"{number + 1}: {large[0]:.0f}/s beside {events} events, {small[0]:.0f}/s beside {SMALL}")
        looks = {count: look(node, "u77") for count, node in nodes.items()}
        for count, (milliseconds, processor) in looks.items():
            say(f"a customer's events among {count}: {milliseconds:.1f} ms, of processor time {processor:.1f} ms")
    return statistics.median(ratios), looks[events][0]


def _fill(primary: Server, count: int, step: int = 500_000) -> None:
    """Fill the journal, without a sync for each part and with the indexes made afterwards."""
    primary.configure(fsync="off")
    keys = primary.ask(
        "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'events'::regclass"
        " AND contype IN ('p', 'u')"
    ).splitlines()
    primary.ask("; ".join(f"ALTER TABLE events DROP CONSTRAINT {key.split()[0]}" for key in keys))
    indexes = primary.ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'events'").splitlines()
    names = primary.ask("SELECT string_agg(indexname, ', ') FROM pg_indexes WHERE tablename = 'events'")
    primary.ask(f"DROP INDEX {names}")
    for after in range(0, count, step):
        until = min(after + step, count)
        primary.ask(_FILL.format(after=after, until=until, each=EACH_CUSTOMER), within=1800)
    for change in [*(f"ALTER TABLE events ADD CONSTRAINT {key}" for key in keys), *indexes]:
        primary.ask(f"SET maintenance_work_mem = '1GB'; {change}", within=1800)
    primary.ask(f"UPDATE head SET seq = {count}")
    primary.configure(fsync="on")
    primary.ask("VACUUM ANALYZE events", within=1800)
    primary.ask("CHECKPOINT", within=600)
