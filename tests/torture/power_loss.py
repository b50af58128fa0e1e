"""Power loss, many times over: the real journal at work on a recorded disk, then a crash image for a random moment of
it, opened as the gateway would open it, and compared with what had been acknowledged by then."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

import apsw
import msgspec
from recorded_disk import Images, RecordedDisk
from running import write_config

from gateway import simulate
from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.journal.interface import DEAD, JournalDamaged, JournalError, Parked, Receipt, Settlement, Standing, Track
from gateway.journal.sqlite import connection as wal
from gateway.journal.sqlite import journal as sqlite
from gateway.journal.sqlite import writer
from gateway.journal.sqlite.connection import open_writer
from gateway.journal.sqlite.journal import SqliteJournal

RETENTION: Final = 3600.0
ORGANISATION: Final = "acme"
TRACK: Final = Track("archive")
_names = itertools.count()


class Promise(NamedTuple):
    """From `moment` on (a number of operations) the event is to be there; from `until` on retention may drop it."""

    moment: int
    id: str
    digest: bytes


class Promised(msgspec.Struct):
    """What the journal had promised, and when. `cursors` and `dead` are by moment, each newer one over the older."""

    seed: str
    record: RecordedDisk
    events: list[Promise] = []
    expired: list[tuple[int, int]] = []
    """A moment, and the number of events, from the first on, that may be gone from then on."""
    cursors: list[tuple[int, int]] = []
    dead: list[tuple[int, int]] = []


class Verdict(msgspec.Struct):
    """Over all images: how many there were, how many had lost something acknowledged or were no sound database, and
    what was found first."""

    images: int = 0
    lossy: int = 0
    corrupt: int = 0
    lost: int = 0
    examples: list[str] = []

    def __str__(self) -> str:
        return (
            f"{self.images} crash images: {self.lossy} had lost something acknowledged ({self.lost} in all), "
            f"{self.corrupt} corrupt"
        )


class _Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Workload:
    """A journal that is used in every way there is: groups and lone events, large and small ones, repeats, cursors,
    dead letters, checkpoints, retention, clean ends and new starts."""

    def __init__(self, config: Config, seed: str, phases: int) -> None:
        self._config = config
        self._chance = random.Random(seed)
        self._phases = phases
        self._clock = _Clock()
        self._disk = RecordedDisk(f"recorded-{next(_names)}")
        self._epoch = 0
        self._bodies: list[bytes] = []
        self._digests: dict[str, bytes] = {}
        self._kept: list[tuple[float, str]] = []
        self.promised = Promised(seed=seed, record=self._disk)

    async def run(self) -> Promised:
        left = self._phases
        while left > 0:
            journal = SqliteJournal(self._config, clock=self._clock, vfs=self._disk.name)
            await journal.start()
            standing = await journal.take_cursor(TRACK, from_start=True)
            assert isinstance(standing, Standing)
            self._epoch = standing.epoch
            for _ in range(min(left, self._chance.randint(5, 25))):
                await self._phase(journal)
                left -= 1
            await journal.close()
        return self.promised

    async def _phase(self, journal: SqliteJournal) -> None:
        kind = self._chance.random()
        if kind < 0.6:
            await self._append(journal, self._chance.choice((1, 1, 2, 5, 20, 60)))
        elif kind < 0.75:
            await self._settle(journal)
        elif kind < 0.8:
            await self._expire(journal)
        else:
            await asyncio.sleep(self._chance.choice((0.0, 0.002, 0.01)))

    async def _append(self, journal: SqliteJournal, count: int) -> None:
        futures = []
        for _ in range(count):
            if self._bodies and self._chance.random() < 0.1:
                raw = self._chance.choice(self._bodies)
            else:
                text = "x" * int(10 ** self._chance.uniform(0, 4))
                raw = simulate.encode(simulate.body("inbound-message") | {"body": text})
                self._bodies.append(raw)
            future = journal.append(ORGANISATION, journal.decoder.decode(ORGANISATION, raw, None), raw)
            future.add_done_callback(partial(self._acknowledged, raw))
            futures.append(future)
        await asyncio.gather(*futures)

    def _acknowledged(self, raw: bytes, done: asyncio.Future[Receipt]) -> None:
        receipt = done.result()
        if receipt.id not in self._digests:
            self._digests[receipt.id] = _digest(raw)
            self.promised.events.append(Promise(len(self._disk.record), receipt.id, _digest(raw)))

    async def _settle(self, journal: SqliteJournal) -> None:
        cursor = self._chance.randint(self._cursor(), journal.newest)
        park = []
        if cursor > self._cursor() and self._chance.random() < 0.3 and await journal.fetch([cursor]):
            park.append(Parked(seq=cursor, state=DEAD))  # where a repeat had its position, there is no event to park
        await journal.settle(Settlement(track=TRACK, epoch=self._epoch, cursor=cursor, park=park))
        self.promised.cursors.append((len(self._disk.record), cursor))
        self.promised.dead += [(len(self._disk.record), row.seq) for row in park]

    def _cursor(self) -> int:
        return self.promised.cursors[-1][1] if self.promised.cursors else 0

    async def _expire(self, journal: SqliteJournal) -> None:
        """From now on all there is may go by retention, at the journal's own pace."""
        self.promised.expired.append((len(self._disk.record), len(self.promised.events)))
        self._bodies.clear()
        self._clock.now += RETENTION + 1
        await asyncio.sleep(0.01)


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


def _with_normal(path: Path, vfs: str | None = None, copy: bool = True) -> apsw.Connection:
    connection = open_writer(path, vfs, copy)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextlib.contextmanager
def _at_work(normal: bool) -> Iterator[None]:
    """The journal as it is, only with checkpoints and retention so often that a small record has many of them.
    With `normal`, commits are not synced."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(writer, "HOUSEKEEPING", 0.003))
        stack.enter_context(mock.patch.object(wal, "PAGES", 40))
        if normal:
            stack.enter_context(mock.patch.object(sqlite, "open_writer", _with_normal))
        yield


def work(config: Config, seed: str, phases: int, normal: bool = False) -> Promised:
    """Let a new journal work; what it had promised, at which moment. With `normal`, commits are not synced."""
    config.journal.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _at_work(normal):
        return asyncio.run(Workload(config, seed, phases).run())


def examine(promised: Promised, images: int, verdict: Verdict) -> None:
    """Build this number of crash images of a record, and judge each of them."""
    chance = random.Random(f"images of {promised.seed}")
    record = list(promised.record.record)
    acknowledged = [promise.moment for promise in promised.events]
    moments = sorted(
        chance.choice(acknowledged) if chance.random() < 0.5 else chance.randint(0, len(record)) for _ in range(images)
    )
    source = Images(record)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="power-loss-", dir=memory if memory.is_dir() else None))
    try:
        for moment in moments:
            image = source.at(moment, chance)
            for old in folder.iterdir():
                old.unlink()
            for name, data in image.items():
                (folder / name).write_bytes(data)
            verdict.images += 1
            _judge(folder, moment, promised, verdict)
    finally:
        shutil.rmtree(folder)


def lose_power(
    directory: Path, seed: str, verdict: Verdict, images: int, phases: int = 60, *, normal: bool = False
) -> None:
    """One journal at work, and this number of ends of it."""
    directory.mkdir(parents=True)
    config = load_config(write_config(directory, '\n[journal]\nretention = "1h"\nmin_free = "0 B"\n'))
    examine(work(config, seed, phases, normal), images, verdict)


def _judge(folder: Path, moment: int, promised: Promised, verdict: Verdict) -> None:
    where = f"seed {promised.seed!r}, moment {moment}"
    try:
        connection = open_writer(folder / "journal.db")
        try:
            sound = list(connection.execute("PRAGMA integrity_check"))
            found = dict(connection.execute("SELECT id, raw FROM events"))
            cursors = [seq for (seq,) in connection.execute("SELECT seq FROM cursors")]
            dead = {seq for (seq,) in connection.execute("SELECT seq FROM parked WHERE state = 'dead'")}
        finally:
            connection.close()
    except JournalDamaged as error:  # refused, since commits would be lost
        verdict.lossy += 1
        verdict.examples.append(f"{where}: {error}")
        return
    except (apsw.Error, JournalError) as error:
        _corrupt(verdict, f"{where}: {error}")
        return
    if sound != [("ok",)]:
        _corrupt(verdict, f"{where}: {sound[0]}")
        return
    gone = max((count for since, count in promised.expired if since <= moment), default=0)
    lost = []
    for promise in promised.events[gone:]:
        if promise.moment > moment:
            break
        if promise.id not in found:
            lost.append(promise.id)
        elif _digest(found[promise.id]) != promise.digest:
            _corrupt(verdict, f"{where}: {promise.id} has another body")
            return
    lost += [
        f"the cursor at {seq}" for at, seq in promised.cursors if at <= moment and (not cursors or cursors[0] < seq)
    ]
    lost += [f"the dead letter {seq}" for at, seq in promised.dead if at <= moment and seq not in dead]
    if lost:
        verdict.lossy += 1
        verdict.lost += len(lost)
        verdict.examples.append(f"{where}: lost {len(lost)}, first {lost[0]}")


def _corrupt(verdict: Verdict, what: str) -> None:
    verdict.corrupt += 1
    verdict.examples.append(what)
