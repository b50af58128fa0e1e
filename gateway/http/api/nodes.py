"""`/api/nodes`: the gateways on this journal. A journal in a file has one."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Response, get

from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest


class Owned(msgspec.Struct, kw_only=True):
    """A plugin's events, or one shard of them, that a node delivers. In a file there is one shard, 0."""

    plugin: str
    shard: int = 0


class Node(msgspec.Struct, kw_only=True):
    """A gateway: its name and version, since when it runs, when it was seen last, and what it delivers."""

    name: str
    version: str
    started_at: datetime
    seen_at: datetime
    owns: list[Owned]


def nodes_of(context: AdminContext) -> list[Node]:
    """The gateways that run."""
    gateway = context.gateway
    owned = [
        Owned(plugin=name, shard=shard)
        for name, consumer in gateway.delivery.consumers.items()
        for shard in consumer.owned
    ]
    return [
        Node(
            name=gateway.config.node.name,
            version=version("webio-gateway"),
            started_at=datetime.fromtimestamp(gateway.started_at, UTC),
            seen_at=datetime.now(UTC),
            owns=owned,
        )
    ]


def node_routes(context: AdminContext) -> list[Any]:
    """The handlers."""

    @get("/api/nodes", sync_to_thread=False)
    def nodes(request: AnyRequest) -> Response[Any]:
        return json_answer(nodes_of(context))

    return [nodes]
