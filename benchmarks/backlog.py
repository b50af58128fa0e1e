"""The journal when much is in it: `python benchmarks/backlog.py [--events 10000000] [--backlog 1000000] [--rounds 3]`.

Prints the rate of acknowledgements with `--events` in the journal over that with none (goal: at least 0.9), the
rate at which the archive works off a backlog and the memory that takes, and the delay from receipt to a plugin at
1,000 events a second (goal: p99 under 50 ms). Needs about 1 KB of disk per event.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from pathlib import Path

import apsw
import psutil
from steady import percentile
from subjects import behind, flood, running, steady

# isort: split
from victim import Victim

from gateway.config.tables import Config
from gateway.journal.sqlite.journal import SqliteJournal

CHUNK = 200_000
BODY = """{"type": "inboundMessage", "conversationId": "%d", "communicationActionId": "%d", \
"outboundChannelAddress": "447717472695", "inboundChannelAddress": "WhatsApp QA Test", "customerUID": "", \
"body": "No I don't", "dateCreated": "2025-06-01 12:00:00.000"}"""

FILL = f"""
WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :end)
INSERT INTO events (seq, id, received_at, organisation, hook, conversation_id, readable, conflict, created, digest,
    natural_key, raw)
SELECT n, printf('%08x-%04x-7%03x-8%03x-%012x', tick >> 28, (tick >> 12) & 65535, tick & 4095, random() & 4095,
    random() & 281474976710655), at, 'acme', 'inbound-message', CAST(n % 50000 AS TEXT), 1, 0, at, randomblob(16),
    'acme/inbound-message/' || (100000000 + n) || ':',
    CAST(printf('{BODY.replace("'", "''")}', n % 50000, 100000000 + n) AS BLOB)
FROM (SELECT n, :start + n * :step AS at, ((:start + n * :step) / 1000 << 12) AS tick FROM numbers)
"""

LAG = """
import time
from gateway import hookimpl

class Plugin:
    '''How long each event took to get here, in seconds, one a line.'''

    @hookimpl
    def startup(self, context):
        self.path, self.delays = context.directory / 'delays', []

    @hookimpl
    def on_event(self, event):
        self.delays.append(time.time() - event.received_at.timestamp())

    @hookimpl
    def shutdown(self):
        self.path.write_text('\\n'.join(map(str, self.delays)))
"""


def fill(config: Config, count: int) -> None:
    """Write `count` events, received evenly over the last ten days, straight into the file."""

    async def make() -> None:
        journal = SqliteJournal(config)
        await journal.start()
        await journal.close()

    asyncio.run(make())
    connection = apsw.Connection(str(config.journal.path))
    connection.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000")
    span = 10 * 86400 * 1_000_000
    start = int(time.time() * 1_000_000) - span
    for first in range(1, count + 1, CHUNK):
        with connection:
            values = {"first": first, "end": min(first + CHUNK, count + 1), "start": start, "step": span // (count + 1)}
            connection.execute(FILL, values)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


def full_journal(folder: Path, options: argparse.Namespace) -> None:
    """Acknowledgements with a full journal over those with an empty one."""
    began = time.monotonic()
    large = Victim(folder / "large", '[journal]\nmax_size = "100 GiB"\n')
    fill(large.config, options.events)
    size = large.config.journal.path.stat().st_size
    print(f"{options.events} events, {size / 2**30:.1f} GiB, filled in {time.monotonic() - began:.0f} s", flush=True)
    ratios, tails = [], []
    for number in range(options.rounds):
        empty = Victim(folder / f"empty-{number}")
        figures = []
        for victim in (empty, large):
            with running(victim):
                flood(victim, 1, options.connections)
                figures.append(flood(victim, options.seconds, options.connections))
        none, many = figures
        ratios.append(many["rate"] / none["rate"])
        tails.append(many["p99_ms"] / none["p99_ms"])
        print(f"  {none['rate']:.0f}/s with none, {many['rate']:.0f}/s with many", flush=True)
    print(
        f"acknowledged with {options.events} events over with none: {statistics.median(ratios):.2f}, "
        f"p99 {statistics.median(tails):.2f}",
        flush=True,
    )


def drain(folder: Path, options: argparse.Namespace) -> None:
    """A new archive that begins at the start of a journal with a backlog."""
    victim = Victim(
        folder / "drain",
        '[journal]\nmax_size = "100 GiB"\n[plugins.archive-all]\nuse = "archive"\ndirectory = "all"\nfrom = "start"\n',
    )
    fill(victim.config, options.backlog)
    most = 0
    with running(victim):
        [worker] = victim.workers()
        over = threading.Event()

        def watch() -> None:
            nonlocal most
            while not over.wait(0.2):
                most = max(most, psutil.Process(worker).memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        while behind(victim, "archive-all"):
            time.sleep(0.2)
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
    lines = sum(path.read_bytes().count(b"\n") for path in (folder / "drain" / "all").glob("*/*/*.jsonl"))
    print(
        f"backlog of {options.backlog} into the archive: {options.backlog / seconds:.0f} events/s, "
        f"{lines} lines, worker at most {most / 2**20:.0f} MiB",
        flush=True,
    )


def lag(folder: Path, options: argparse.Namespace) -> None:
    """From receipt to the plugin at 1,000 events a second, beside logging and archive."""
    victim = Victim(folder / "lag", '[plugins.logging]\noutput = "events.log"\n[plugins.delays]\n', {"delays": LAG})
    with running(victim):
        steady(victim, 1000, 2)
        figures = steady(victim, 1000, options.seconds * 2)
    delays = [float(line) for line in (folder / "lag" / "delays").read_text().splitlines()]
    shares = ", ".join(f"p{share:g} {percentile(delays, share / 100) * 1000:.1f} ms" for share in (50, 99, 99.9))
    print(
        f"receipt to plugin at 1,000 events/s: {shares}, longest {max(delays) * 1000:.1f} ms "
        f"({len(delays)} events; acknowledged p99 {figures['p99_ms']:.1f} ms)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help="of full, drain, lag; default: all")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    parts = {"full": full_journal, "drain": drain, "lag": lag}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for name in options.part or parts:
            parts[name](Path(folder), options)


if __name__ == "__main__":
    main()
