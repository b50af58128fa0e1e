"""Makes a journal with millions of events, for the benchmarks: written in large groups by the journal's own code, and
kept in a folder, so that further runs take it as it is.

Every tenth event is of one customer, `HOT`; the others are of a tenth as many customers as there are events. Every
message has the word `COMMON`; other words are as frequent as those of a language. Some events wait for a retry or are
dead letters of the plugin `archive`, and there are records of custom value requests.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import apsw

from gateway import simulate
from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.decoding import Decoder
from gateway.journal.append import Append, Appends
from gateway.journal.interface import DEAD, RETRYING, Parked, Settlement, Track
from gateway.journal.search import ValueRecord
from gateway.journal.sqlite import indexer
from gateway.journal.sqlite.connection import WriteAheadLog, open_reader_connection, open_writer, rows
from gateway.journal.sqlite.cursors import release, settle, take
from gateway.journal.sqlite.insert import insert
from gateway.journal.sqlite.queries import keep_record
from gateway.journal.sqlite.search_file import SearchFile, search_path

HOT: Final = "hot"
COMMON: Final = "common"
GROUP: Final = 4000
DAYS: Final = 20
"""The events came evenly during the last days."""
_MIX: Final = {
    "inbound-message": 30, "message-send": 34, "delivery-report": 30, "payment": 3, "set-status": 2, "move-to-queue": 1,
}  # fmt: skip
_MARK: Final = "@@"


def bodies(count: int, seed: int = 7) -> Iterator[bytes]:
    """Bodies of about 600 bytes."""
    chance = random.Random(seed)
    texts = [_text(chance) for _ in range(20_000)]
    started = datetime.now(UTC) - timedelta(days=DAYS)
    every = timedelta(days=DAYS) / count
    marked = {"conversationId": "c", "communicationActionId": "a", "outboundChannelAddress": "p", "customerUID": "u",
              "dateCreated": "d", "body": "t", "reference": "r"}  # fmt: skip
    templates = {}
    for hook in _MIX:
        fields = simulate.body(hook) | {"channelReference": "f" * 128, "agent": "Collections Agent 17"}
        given = {name: f"{_MARK}{mark}{_MARK}" for name, mark in marked.items() if name in fields}
        templates[hook] = simulate.encode(fields | given).decode().split(_MARK)
    hooks = chance.choices(list(_MIX), list(_MIX.values()), k=100_000)
    customers, some = max(1, count // 10), chance.random
    for number in range(count):
        customer = 0 if number % 10 == 0 else 1 + int(some() * customers)
        hook = hooks[number % len(hooks)]
        if number % 100 == 0:
            moment = f"{started + every * number:%Y-%m-%d %H:%M:%S}"
        text = texts[int(some() * len(texts))]
        values = {
            "c": f"{customer * 3 + number % 3}" if customer else f"h{number // 100}",
            "a": f"{number}",
            "p": f"4477{customer:08}",
            "u": f"{customer:08}" if customer else HOT,
            "d": f"{moment}.{number % 1000:03}",
            "t": f"{text} rare{number // 100_000}" if number % 100_000 == 7 else text,
            "r": f"PAY-{number}",
        }
        parts = templates[hook]
        yield "".join([values[part] if at % 2 else part for at, part in enumerate(parts)]).encode()


def _text(chance: random.Random) -> str:
    return f"{COMMON} " + " ".join(
        f"word{int(chance.paretovariate(0.7)) % 100_000}" for _ in range(chance.randint(25, 45))
    )


def make(config: Config, count: int) -> None:
    """Fill the journal of a config with `count` events, and its search index."""
    path = config.journal.path
    if path.exists():
        with closing(open_reader_connection(path)) as connection:
            [(newest,)] = connection.execute("SELECT max(seq) FROM events")
        print(f"takes the journal with {newest} events that is there", flush=True)
        return
    began = time.monotonic()
    command = [sys.executable, __file__, str(config.source), str(count)]
    with closing(open_writer(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        wal = WriteAheadLog(connection)
        filling = subprocess.Popen(command)
        try:
            _fill(connection, wal, config, count)
            print(f"{count} events written in {time.monotonic() - began:.0f} s", flush=True)
            _deliver(connection, wal, count)
            wal.keep_short(idle=True)
            filling.wait()
        finally:
            filling.kill()
        connection.execute("PRAGMA synchronous = FULL")
    size, search = (one.stat().st_size / 2**20 for one in (path, search_path(path)))
    print(f"journal {size:.0f} MiB, index {search:.0f} MiB, made in {time.monotonic() - began:.0f} s", flush=True)


@contextmanager
def _group(connection: apsw.Connection, wal: WriteAheadLog) -> Iterator[None]:
    with connection:
        yield
        wal.number()
    wal.keep_short(idle=False)


def _fill(connection: apsw.Connection, wal: WriteAheadLog, config: Config, count: int) -> None:
    clock = [time.time() - DAYS * 86400]
    step = DAYS * 86400 / count
    decoder, appends = Decoder(config), Appends(lambda: clock[0])
    window = int(config.journal.dedupe_window * 1_000_000)
    group: list[Append] = []
    done = 0
    for raw in bodies(count):
        clock[0] += step
        group.append(appends.make("acme", decoder.decode("acme", raw, None), raw, lambda outcome: None))
        if len(group) == GROUP or done + len(group) == count:
            with _group(connection, wal):
                insert(connection, group, done + 1, window, lambda seq: None)
            done += len(group)
            group = []


def _deliver(connection: apsw.Connection, wal: WriteAheadLog, count: int) -> None:
    """A plugin that has had all events, but for some."""
    track, now = Track("archive"), time.time()
    error = "ConnectionRefusedError: connection {} refused at crm.py:{}"
    chance = random.Random(1)
    some = sorted(chance.sample(range(1, count + 1), min(count // 10, 20_000)))
    with _group(connection, wal):
        epoch = take(connection, track, 0, ("*",)).epoch
        settle(connection, Settlement(track=track, epoch=epoch, cursor=count), now)
    for start in range(0, len(some), GROUP):
        parked = [
            Parked(seq=seq, state=RETRYING if seq % 40 == 0 else DEAD, attempts=12, next_at=now + 86400 * 30,
                   error=error.format(seq, seq % 50), since=now - chance.random() * 86400 * DAYS)
            for seq in some[start : start + GROUP]
        ]  # fmt: skip
        with _group(connection, wal):
            settle(connection, Settlement(track=track, epoch=epoch, park=parked), now)
    with _group(connection, wal):
        release(connection, track, epoch, True)
    records = count // 20
    for start in range(0, records, GROUP):
        with _group(connection, wal):
            for number in range(start, min(records, start + GROUP)):
                customer = 0 if number % 10 == 0 else 1 + chance.randrange(max(1, count // 10))
                keep_record(connection, ValueRecord(
                    at=datetime.now(UTC) - timedelta(days=DAYS) * (1 - number / records), organisation="acme",
                    customer_uid=f"{customer:08}" if customer else HOT, address="4477…00", status=200,
                    fields={"balance": {"outcome": "answered", "provider": "crm", "ms": 12.5}},
                ))  # fmt: skip


def indexed(config: Config) -> int:
    """How many positions the search index has."""
    if (index := SearchFile.to_read(search_path(config.journal.path))) is None:
        return 0
    with closing(index):
        return sum(part.upto - part.after for part in index.parts())


def index(config: Config, count: int) -> None:
    """Fill the search index up to position `count` while another process fills the journal, without rests."""
    indexer.BATCH, indexer.BATCH_BYTES = 10_000, 2**23  # type: ignore[misc]
    indexer.REST_ALONE = indexer.REST = indexer.REST_BUSY = 0.0
    opened: list[apsw.Connection] = []

    def newest() -> int:
        if not opened:
            opened.append(open_reader_connection(config.journal.path, own=True))
        [(found,)] = rows(opened[0], "SELECT max(seq) FROM events")
        return int(found or 0)

    filling = indexer.Indexer(config.journal.path, newest, 0)
    filling.start()
    while indexed(config) < count:
        time.sleep(1)
    filling.stop()


if __name__ == "__main__":
    index(load_config(Path(sys.argv[1])), int(sys.argv[2]))
