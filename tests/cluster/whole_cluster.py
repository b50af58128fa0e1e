"""A whole cluster under load: two database hosts, gateways, and what its history is read from."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from history import Findings, Kept, judge
from load import Acknowledged, Load, Target
from network import open_network
from nodes import DELIVERY, RECORDERS, Node, gateways
from servers import DATABASE, Pair, wait_until

PLUGINS: Final = ("spread", "single")
MEMORY: Final = Path("/dev/shm")
"""A file system in memory: processes die here, not machines, and no commit waits for a disk that others use, too."""
_BEHIND: Final = """
SELECT (SELECT sum((SELECT seq FROM head) - seq) FROM cursors),
    (SELECT count(*) FROM parked WHERE state IN ('retrying', 'waiting'))
"""
"""How many events the cursors have not passed, of all shards, and how many events wait to be tried again."""


class Cluster:
    """A primary, a standby and gateways; `with` starts and ends them. The servers' data are in a folder of their own,
    since their owner may not read `folder`, where the gateways are."""

    def __init__(
        self,
        folder: Path,
        *,
        synchronous: bool = True,
        count: int = 3,
        text: str = DELIVERY + RECORDERS,
        plugins: Sequence[str] = PLUGINS,
    ) -> None:
        """`text` has the tables of the gateways' configs, with recorders named `plugins`, which take every event."""
        self._stack = ExitStack()
        self.folder = folder
        self.plugins = plugins
        self.data = Path(tempfile.mkdtemp(prefix="cluster-", dir=MEMORY if MEMORY.is_dir() else None))
        self.data.chmod(0o755)
        self._stack.callback(shutil.rmtree, self.data, ignore_errors=True)
        self.network = open_network()
        self._stack.callback(self.network.close)
        self.pair = Pair(self.network, self.data, synchronous=synchronous)
        self._stack.callback(self.pair.close)
        self.nodes = gateways(self.network, self.pair, folder, count, text)

    def __enter__(self) -> Self:
        try:
            self.pair.start()
            self._stack.callback(self.kill)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, patch: str = "") -> None:
        """Start all gateways at the same time, and wait until they accept connections."""
        for node in self.nodes:
            node.start(patch=patch)
        for node in self.nodes:
            node.wait_for_words("gateway: webhooks at ")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def load(self, *, count: int | None = None, **options: Any) -> Load:
        """Load on all gateways, or on the first `count`, with the options of `Load`."""
        targets = [Target(node.name, node.host.listen, node.port) for node in self.nodes[:count]]
        return Load(self.nodes[0].config, targets, **options)

    def ask(self, statement: str) -> str:
        """What a statement returns on the primary."""
        return self.pair.primary.ask(statement)

    def wait_owner(self, plugin: str, within: float = 60) -> Node:
        """The gateway that delivers a plugin of one shard, once there is one."""
        query = f"SELECT owner_name FROM cursors WHERE plugin = '{plugin}' AND owner IS NOT NULL"
        by_name = {node.name: node for node in self.nodes}
        wait_until(lambda: self.ask(query) in by_name, f"{plugin} has an owner", within)
        return by_name[self.ask(query)]

    def wait_shards(self, plugin: str, gateways: int, within: float = 60) -> None:
        """Wait until so many gateways share a plugin's shards, whose numbers differ by one at most."""
        shares = (
            f"SELECT max(n) - min(n) <= 1 AND count(*) = {gateways} FROM (SELECT count(*) AS n FROM cursors"
            f" WHERE plugin = '{plugin}' AND owner IS NOT NULL GROUP BY owner) owned"
        )
        wait_until(lambda: self.ask(shares) == "t", f"{gateways} gateways share {plugin}", within)

    def wait_delivered(self, within: float = 120) -> None:
        """Wait until every plugin has everything. Fails where nothing is delivered for `within` seconds: after crashes,
        events are delivered one by one."""
        deadline, last = time.monotonic() + within, ""
        while (behind := self.ask(_BEHIND)) != "0|0":
            if behind != last:
                deadline, last = time.monotonic() + within, behind
            assert time.monotonic() < deadline, f"nothing was delivered for {within:g} s; cursors and rows: {behind}"
            time.sleep(0.1)

    def kept(self) -> list[Kept]:
        """The events of the journal, in their order."""
        rows = self._rows("SELECT seq, id::text, conversation_id, raw FROM events ORDER BY seq")
        return [
            Kept(seq, event_id, json.loads(raw)["communicationActionId"], conversation)
            for seq, event_id, conversation, raw in rows
        ]

    def shards_of(self, node: Node) -> set[tuple[str, int]]:
        """The plugins and shards that a gateway owns."""
        rows = self._rows(f"SELECT plugin, shard FROM cursors WHERE owner_name = '{node.name}'")
        return {(plugin, shard) for plugin, shard in rows}

    def shards(self) -> dict[tuple[str, str], int]:
        """The shard in which an event is for a plugin, by plugin and event id."""
        rows = self._rows("SELECT plugin, id::text, bucket % shards FROM events, plugins")
        return {(plugin, event_id): shard for plugin, event_id, shard in rows}

    def _rows(self, query: str) -> list[Any]:
        async def rows() -> list[Any]:
            primary = self.pair.primary
            connection = await asyncpg.connect(
                host=str(primary.folder), port=primary.port, user=DATABASE, database=DATABASE
            )
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return asyncio.run(rows())

    def judge(self, acknowledged: Sequence[Acknowledged]) -> Findings:
        deliveries = [delivery for node in self.nodes for delivery in node.deliveries()]
        return judge(acknowledged, self.kept(), deliveries, self.plugins)


Say = Callable[[str], None]


def silent(line: str) -> None:
    """Says nothing."""
