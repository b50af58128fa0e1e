"""The gateways on one journal: the heartbeat of this one, which also renews its leases, and what it knows of others.

A gateway knows its own row by its identity, not by its name. It is live while its last beat is not older than a lease
lasts. Each beat is one statement, on a connection that nothing else uses, so that no slow query delays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import msgspec

from gateway.journal.interface import Delivers, JournalError, Share, Track
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.failures import meaning, translated
from gateway.journal.postgresql.peers import live_peers
from gateway.journal.postgresql.settling import CURSORS
from gateway.log import RateLimit

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.agreement import Peer
    from gateway.journal.postgresql.leases import Leases
    from gateway.journal.postgresql.marks import CursorMarks

log = RateLimit(logging.getLogger("gateway.journal"))

KEPT: Final = 7 * 86400.0
"""Seconds for which the row of a gateway that is gone is kept."""
AGAIN: Final = 0.5
"""Seconds after which a beat that failed is tried again."""
_BEAT: Final = """
WITH beat AS (
    INSERT INTO nodes (id, name, version, layout, about) VALUES ($1, $3, $4, $5, $6::text::jsonb)
    ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(), about = excluded.about, stopped_at = NULL
), mine AS (
    SELECT c.plugin, c.shard FROM unnest($7::text[], $8::int[], $9::bigint[]) AS h(plugin, shard, epoch)
    JOIN cursors c ON c.plugin = h.plugin AND c.shard = h.shard AND c.epoch = h.epoch
    WHERE c.owner = $1 ORDER BY c.plugin, c.shard FOR NO KEY UPDATE OF c
)
UPDATE cursors c SET lease_until = clock_timestamp() + $2 * interval '1 second' FROM mine
WHERE c.plugin = mine.plugin AND c.shard = mine.shard RETURNING c.plugin, c.shard, c.epoch
"""
"""Renews the leases that the gateway knows of. A row may name it although it does not deliver from it: a release has
failed, or the answer to a take was lost. Such a lease has to end."""
_OWNED: Final = (
    "SELECT plugin, owner, count(*) AS shards FROM cursors WHERE lease_until > clock_timestamp() GROUP BY plugin, owner"
)
_LEAVE: Final = (
    "WITH gone AS (UPDATE cursors SET owner = NULL, owner_name = NULL, lease_until = NULL WHERE owner = $1)"
    " UPDATE nodes SET stopped_at = clock_timestamp(), about = jsonb_set(about, '{delivers}', '{}') WHERE id = $1"
)


class _Told(msgspec.Struct):
    delivers: dict[str, Delivers] = {}


class LiveNode(NamedTuple):
    """A gateway that runs, unless it is gone at `until` by the clock of leases, and to which plugins it delivers."""

    identity: UUID
    name: str
    delivers: Mapping[str, Delivers]
    until: float


class Nodes:
    """`deliveries` says to which plugins this gateway delivers; `about` what else its row tells others, as JSON has it.
    `turned_over` is called when the picture of the others may have changed."""

    def __init__(
        self,
        config: Config,
        identity: UUID,
        layout: int,
        channel: str,
        leases: Leases,
        marks: CursorMarks,
        clock: Callable[[], float],
        turned_over: Callable[[], None],
    ) -> None:
        self.about: Callable[[], Mapping[str, object]] = dict
        self.deliveries: Callable[[], Mapping[str, Delivers]] = dict
        self.live: list[LiveNode] = []
        self.peers: list[Peer] = []
        """The same gateways with all that their rows have."""
        self.owned: dict[str, dict[UUID, int]] = {}
        """How many shards of a plugin each gateway owns."""
        self._config = config
        self._identity = identity
        self._layout = layout
        self._channel = channel
        self._leases = leases
        self._marks = marks
        self._clock = clock
        self._turned_over = turned_over
        self._connection: DatabaseConnection | None = None
        self.beating = asyncio.Lock()
        """Held during a beat."""
        self._abandoned = False
        self._task: asyncio.Task[None] | None = None

    async def announce(self) -> None:
        """Tell the others at once of this gateway, and go on to beat until `stop`. `JournalError`."""
        if self._abandoned:
            return
        await self._beat(announce=True)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="leases")

    async def abandon(self) -> None:
        """Do what the death of the process does: no lease is renewed any more, and none is released."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()
        self._abandoned = True

    async def stop(self) -> None:
        """The gateway is gone: its cursors are free."""
        if self._abandoned:
            return
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        held = self._leases.held()
        for track in held:
            self._leases.end(track)
        if self._task is not None or held:  # else it is a command, not a gateway
            with contextlib.suppress(JournalError):
                async with self.beating:
                    connection = await self._connected()
                    with translated():
                        await self._marks.keep(connection, self._clock(), last=True)
                        await connection.execute(_LEAVE, self._identity)
                        await self._notify(connection)
        if self._connection is not None:
            self._connection.terminate()

    async def look(self) -> None:
        """Look at the others anew: one of them has said that something is different. `JournalError`."""
        async with self.beating:
            if not self._abandoned:
                connection = await self._connected()
                with translated():
                    await self._look(connection)

    def share(self, plugin: str, shards: int, owned: int) -> Share:
        """How many of a plugin's shards this gateway is to own, which now owns `owned` of them. A gateway whose plugin
        has not started leaves them to others, if it has started there. Gateways whose config has another number of
        shards get none while those with this one run. One that was last seen too long ago is gone, and its shards are
        due before the next look at the others."""
        live = [node for node in self.live if node.until > self._leases.clock()]
        nodes = {node.identity: node.delivers[plugin] for node in live if plugin in node.delivers}
        nodes[self._identity] = self.deliveries().get(plugin, Delivers(shards, True))
        nodes = {identity: one for identity, one in nodes.items() if one.shards == shards}
        able = [identity for identity, one in nodes.items() if one.started] or list(nodes)
        if self._identity not in able:
            return Share(0, owned)
        least, most = shards // len(able), -(-shards // len(able))
        counts = self.owned.get(plugin, {})
        lacks = any(counts.get(one, 0) < least for one in able if one != self._identity)
        return Share(most, max(owned - most, 1 if owned > least and lacks else 0))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._leases.times.every)
            while True:
                try:
                    await self._beat()
                    break
                except JournalError as error:
                    log.warning("the leases of cursors could not be renewed, trying again: %s", error)
                    await asyncio.sleep(min(AGAIN, self._leases.times.every))
            self._turned_over()

    async def _beat(self, announce: bool = False) -> None:
        async with self.beating:
            connection = await self._connected()
            try:
                async with asyncio.timeout(self._leases.times.lasts / 2):
                    await self._renew(connection)
                    if announce:
                        await self._notify(connection)
                    await self._marks.keep(connection, self._clock())
                    await self._look(connection)
            except BaseException as error:
                connection.terminate()
                if isinstance(error, Exception):
                    raise meaning(error) from error
                raise

    async def _renew(self, connection: DatabaseConnection) -> None:
        held, asked = self._leases.held(), self._leases.clock()
        about = {**self.about(), "delivers": self.deliveries()}
        rows = await connection.fetch(
            _BEAT,
            self._identity,
            self._leases.times.lasts,
            self._config.node.name,
            version("webio-gateway"),
            self._layout,
            msgspec.json.encode(about).decode(),
            [track.plugin for track in held],
            [track.shard for track in held],
            [lease.epoch for lease in held.values()],
        )
        self._leases.renewed(held, asked, [(Track(row["plugin"], row["shard"]), row["epoch"]) for row in rows])

    async def _look(self, connection: DatabaseConnection) -> None:
        asked, lasts = self._leases.clock(), self._leases.times.lasts
        peers = await live_peers(connection, lasts)
        owned = await connection.fetch(_OWNED)
        self.peers = peers
        self.live = [
            LiveNode(peer.identity, peer.name, msgspec.convert(peer.about, _Told).delivers, asked + lasts - peer.age)
            for peer in peers
        ]
        self.owned = {}
        for row in owned:
            self.owned.setdefault(row["plugin"], {})[row["owner"]] = row["shards"]

    def leave_server(self) -> None:
        """The primary is another server now: renew the leases there."""
        if self._connection is not None:
            self._connection.terminate()

    async def _connected(self) -> DatabaseConnection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._config, "leases")
            with translated():
                await self._connection.execute(
                    f"DELETE FROM nodes WHERE coalesce(stopped_at, beat_at) < clock_timestamp() - interval '{KEPT} s'"
                )
        return self._connection

    async def _notify(self, connection: DatabaseConnection) -> None:
        await connection.execute("SELECT pg_notify($1, $2)", self._channel, CURSORS)
