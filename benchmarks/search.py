"""Searches in a large journal: `python benchmarks/search.py [--events 1000000] [--rounds 3] [--folder /dev/shm]`.

Fills a journal with `--events` events of a tenth as many customers, then prints how long the search index took beyond
that, its size, how long each search takes as a command would do it (goal: at most 100 ms), and the rate of
acknowledgements with the index being filled over that without (goal: at least 0.97). Needs about 1 KB per event.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from subjects import flood, running

# isort: split
from victim import Victim

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.search_file import SearchFile, search_path

GROUP = 1000
ROOMY = '[journal]\nmax_size = "100 GiB"\n'


def bodies(count: int) -> Iterator[bytes]:
    """Messages of `count / 10` customers, with words whose frequency falls as it does in a language."""
    chosen = random.Random(7)
    for number in range(count):
        customer = chosen.randrange(max(1, count // 10))
        words = " ".join(f"word{int(chosen.paretovariate(1.0))}" for _ in range(12))
        fields = {
            "customerUID": f"{customer}",
            "conversationId": f"c{customer * 3 + number % 3}",
            "communicationActionId": f"{number}",
            "outboundChannelAddress": f"4477{customer:08}",
            "body": words,
        }
        yield simulate.encode(simulate.body("inbound-message") | fields)


async def fill(config: Config, count: int) -> None:
    journal = SqliteJournal(config)
    await journal.start()
    pending: list[asyncio.Future[object]] = []
    for raw in bodies(count):
        pending.append(journal.append("acme", journal.decoder.decode("acme", raw, None), raw))  # type: ignore[arg-type]
        if len(pending) == GROUP:
            await asyncio.gather(*pending)
            pending.clear()
    await asyncio.gather(*pending)
    filled = time.monotonic()
    while indexed(config) < count:
        await asyncio.sleep(0.1)
    size, index = (path.stat().st_size for path in (config.journal.path, search_path(config.journal.path)))
    print(f"index complete {time.monotonic() - filled:.0f} s after the last event; journal {size / 2**20:.0f} MiB,"
          f" index {index / 2**20:.0f} MiB", flush=True)  # fmt: skip
    await journal.close()


def indexed(config: Config) -> int:
    """How many positions the index has."""
    if (index := SearchFile.to_read(search_path(config.journal.path))) is None:
        return 0
    with closing(index):
        return sum(part.upto - part.after for part in index.parts())


def search(config: Config, count: int) -> None:
    customer = count // 20
    searches = {
        "a customer": Filter(customer=f"{customer}"),
        "a conversation": Filter(conversation=f"c{customer * 3}"),
        "an address": Filter(address=f"+44 77 {customer:08}"),
        "a rare word": Filter(text="word5000"),
        "a frequent word": Filter(text="word1"),
        "two frequent words": Filter(text="word1 word2"),
        "a customer and a word": Filter(customer=f"{customer}", text="word1"),
        "a beginning of a word": Filter(text="word777*"),
        "nothing that exists": Filter(customer="no one"),
    }
    for name, which in searches.items():
        times, found = [], 0
        for _ in range(5):
            began = time.perf_counter()
            with closing(open_reader(config)) as reader:
                found = len(list(reader.events(which, 20, newest=True)))
            times.append(time.perf_counter() - began)
        print(
            f"  {name}: {statistics.median(times) * 1000:.1f} ms, first {times[0] * 1000:.1f} ms ({found} rows)",
            flush=True,
        )
    began = time.perf_counter()
    with closing(open_reader(config)) as reader:
        found = len(list(reader.timeline(Filter(customer=f"{customer}"))))
    print(f"  a customer's timeline: {(time.perf_counter() - began) * 1000:.1f} ms ({found} lines)", flush=True)


def acknowledged(folder: Path, large: Victim, options: argparse.Namespace) -> None:
    """The rate with the index, and with a folder in its place, which keeps it from being filled."""
    path, ratios = search_path(large.config.journal.path), []
    kept = folder / "kept"
    for number in range(options.rounds):
        rates = {}
        for index in (True, False) if number % 2 else (False, True):
            if not index:
                path.rename(kept)
                path.mkdir()
            with running(large):
                flood(large, 1, options.connections)
                rates[index] = flood(large, options.seconds, options.connections)["rate"]
            if not index:
                path.rmdir()
                kept.rename(path)
        ratios.append(rates[True] / rates[False])
        print(f"  {rates[True]:.0f}/s with the index, {rates[False]:.0f}/s without", flush=True)
    print(f"acknowledged with the index over without: {statistics.median(ratios):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="Where the journal is made; it is deleted.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        large = Victim(Path(name) / "large", ROOMY)
        began = time.monotonic()
        asyncio.run(fill(large.config, options.events))
        print(f"{options.events} events filled and indexed in {time.monotonic() - began:.0f} s", flush=True)
        search(large.config, options.events)
        if options.rounds:
            acknowledged(Path(name), large, options)


if __name__ == "__main__":
    main()
