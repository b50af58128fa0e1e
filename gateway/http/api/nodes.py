"""`/api/nodes`: the gateways on this journal. A journal in a file has one."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from litestar import Response, get

from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest
from gateway.journal import journal_nodes
from gateway.journal.nodes import Node, Owned


async def nodes_of(context: AdminContext) -> list[Node]:
    """The gateways that run. `JournalError` where the database does not answer."""
    gateway = context.gateway
    if gateway.config.journal.url is not None:
        return await context.reading.run(lambda: journal_nodes(gateway.config))
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

    @get("/api/nodes")
    async def nodes(request: AnyRequest) -> Response[Any]:
        return json_answer(await nodes_of(context))

    return [nodes]
