"""How long it takes until others have taken over: from a gateway that is killed or stopped, and from a primary."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from itertools import pairwise

import msgspec
from load import Load
from nodes import Node
from recorder import Delivery
from servers import wait_until
from whole_cluster import Cluster

RECENT = 2.0
"""A conversation that the victim delivered in these last seconds is one that another must take over."""


class Takeover(msgspec.Struct):
    """Seconds. `gap` is the longest pause between two acknowledgements of the other gateways, `taken_over` the time
    until every conversation that the victim delivered is delivered by another."""

    gap: float
    taken_over: float

    def __str__(self) -> str:
        return (
            f"longest pause of the others' acknowledgements {self.gap:.2f} s, taken over after {self.taken_over:.2f} s"
        )


def take_over(cluster: Cluster, load: Load, number: int = signal.SIGKILL) -> Takeover:
    """End the gateway that has most to deliver, by SIGKILL or SIGTERM, and measure; then start it again."""
    load.wait_acknowledged(200)
    victim = cluster.wait_owner("single")
    load.wait_acknowledged(200)
    began = time.monotonic()
    mine = {(one.plugin, conversation) for one, conversation in _deliveries(cluster, [victim], began - RECENT)}
    assert mine, f"{victim.name} delivered nothing"
    if number == signal.SIGKILL:
        victim.kill()
    else:
        victim.signal(number)
    taken: dict[tuple[str, str], float] = {}

    def all_taken() -> bool:
        others = [node for node in cluster.nodes if node is not victim]
        for one, conversation in _deliveries(cluster, others, began):
            taken.setdefault((one.plugin, conversation), one.at)
        return mine <= taken.keys()

    wait_until(all_taken, "others deliver what the victim did", 60)
    acknowledged = [one.at for one in load.acknowledged if one.gateway != victim.name and one.at > began - 0.5]
    victim.kill()
    victim.start()
    load.wait_acknowledged(20, by=victim.name)
    return Takeover(
        gap=max(later - earlier for earlier, later in pairwise(acknowledged)),
        taken_over=max(taken[one] for one in mine) - began,
    )


def promotion(cluster: Cluster, load: Load) -> float:
    """Kill the primary and promote the standby: seconds from the promotion's begin to the next acknowledgement."""
    load.wait_acknowledged(100)
    cluster.pair.primary.kill()
    began = cluster.pair.promote()
    seconds = load.wait_acknowledged(1) - began
    cluster.pair.rebuild()
    for node in cluster.nodes:
        load.wait_acknowledged(1, by=node.name)
    return seconds


def _deliveries(cluster: Cluster, nodes: Iterable[Node], since: float) -> list[tuple[Delivery, str]]:
    """Deliveries since a time, each with its conversation, in the order of their times; without those of events that
    have no conversation."""
    conversations = cluster.conversations()
    found = [one for node in nodes for one in node.deliveries() if one.at >= since]
    return [(one, conversation) for one in sorted(found) if (conversation := conversations.get(one.id)) is not None]
