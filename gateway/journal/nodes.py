"""The gateways on one journal, as an operator sees them."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Owned(msgspec.Struct, kw_only=True):
    """A plugin's events, or one shard of them, that a node delivers. In a file there is one shard, 0. In a database,
    `shards` is how many the plugin has, and `behind` how many positions the cursor is behind the newest event."""

    plugin: str
    shard: int = 0
    shards: int | msgspec.UnsetType = msgspec.UNSET
    behind: int | msgspec.UnsetType = msgspec.UNSET


class Node(msgspec.Struct, kw_only=True):
    """A gateway: its name and version, since when it runs, when it was seen last, and what it delivers; in a database
    also the layout of the journal that it works with."""

    name: str
    version: str
    started_at: datetime
    seen_at: datetime
    owns: list[Owned]
    layout: int | msgspec.UnsetType = msgspec.UNSET
