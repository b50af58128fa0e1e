"""What the delivery costs a plugin that sends: `python benchmarks/plugins.py [NAME...] [--concurrency 8] [--rounds 3]`.

Prints how fast a gateway hands queued events to a plugin, beside how fast the plugin's bare client sends the same
records, with as many at the same time, by turns in one run (goal: at least 0.7 of it). `bare_NAME.py` is the bare
client.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import subjects  # noqa: F401  (finds the tests' modules)
import uvloop
from bare import CLIENT_CORE, Subject

# isort: split
from running import read_config

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal import open_journal
from gateway.plugin_host.load import load_plugins
from gateway.service import Gateway

GOAL = 0.7
AT_ONCE = 500


async def fill(config: Config, count: int) -> list[bytes]:
    """Write this many events into the journal, each of a conversation of its own; their records."""
    journal, records = open_journal(config), []
    await journal.start()
    name = next(iter(config.organisations))

    async def append() -> None:
        raw = simulate.encode(simulate.body("inbound-message"))
        await journal.append(name, journal.decoder.decode(name, raw, None), raw)

    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*(append() for _ in range(min(AT_ONCE, count - first))))
    position = 0
    while entries := await journal.read(position, AT_ONCE):
        records += [event.record() for _, event in entries]
        position = entries[-1][0]
    await journal.close()
    return records


async def deliver(config: Config) -> float:
    """Seconds from the start of the config's only plugin until it has everything and that is settled."""
    [plugin] = plugins = load_plugins(config)
    gateway = Gateway(config, plugins)
    await gateway.start(lambda failure: os.abort())
    try:
        await plugin.startup.done.wait()
        began, consumer = time.perf_counter(), gateway.delivery.consumers[plugin.name]
        while not consumer.idle:
            await asyncio.sleep(0.002)
        seconds = time.perf_counter() - began
        assert consumer.health.failures == 0, consumer.health.trouble
        return seconds
    finally:
        gateway.drain()
        await gateway.stop()


async def bare(subject: Subject, records: Sequence[bytes], concurrency: int) -> float:
    began = time.perf_counter()
    await subject.bare(records, concurrency)
    return time.perf_counter() - began


def measure(name: str, folder: Path, options: argparse.Namespace) -> None:
    run: Callable[[Coroutine[Any, Any, Any]], Any] = uvloop.run
    with importlib.import_module(f"bare_{name}").subject(folder) as subject:
        count, together = options.events or subject.events, subject.in_flight or options.concurrency
        records = run(fill(read_config(folder), count))
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds):
            table = f'use = "{name}"\nfrom = "start"\nconcurrency = {options.concurrency}\n{subject.table}'
            config = read_config(folder, f"[plugins.{name}-{number}]\n{table}")
            for found, seconds in zip(
                rates, (run(bare(subject, records, together)), run(deliver(config))), strict=True
            ):
                found.append(count / seconds)
    alone, delivered = map(statistics.median, rates)
    print(
        f"{name}: {delivered:.0f} events/s delivered, {alone:.0f}/s by its bare client, {together} at the "
        f"same time: {delivered / alone:.2f} (goal: {GOAL:g})",
        flush=True,
    )


def main() -> None:
    known = sorted(path.stem.removeprefix("bare_") for path in Path(__file__).parent.glob("bare_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, help="how many; default: as many as suit the plugin")
    options = parser.parse_args()
    if unknown := set(options.name) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    os.sched_setaffinity(0, {CLIENT_CORE})
    for name in options.name or known:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            measure(name, Path(folder), options)


if __name__ == "__main__":
    main()
