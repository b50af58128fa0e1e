"""How long it takes until others have taken over: from a gateway that is killed or stopped, and from a primary."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import msgspec
from load import Load
from servers import wait_until
from whole_cluster import Cluster


class Takeover(msgspec.Struct):
    """Seconds. `gap` is the longest pause between two acknowledgements of the other gateways, `taken_over` the time
    until another gateway delivers from every shard of which the victim was the owner."""

    gap: float
    taken_over: float

    def __str__(self) -> str:
        return (
            f"longest pause of the others' acknowledgements {self.gap:.2f} s, taken over after {self.taken_over:.2f} s"
        )


def take_over(cluster: Cluster, load: Load, number: int = signal.SIGKILL) -> Takeover:
    """End the gateway that delivers to the plugin with one shard, by SIGKILL or SIGTERM, and measure; then start it
    again."""
    cluster.wait_shards("spread", len(cluster.nodes))
    victim = cluster.wait_owner("single")
    load.wait_acknowledged(200)
    owned = cluster.shards_of(victim)
    began = time.monotonic()
    if number == signal.SIGKILL:
        victim.kill()
    else:
        victim.signal(number)
    taken: dict[tuple[str, int], float] = {}

    def all_taken() -> bool:
        shards = cluster.shards()
        for node in cluster.nodes:
            for one in sorted(node.deliveries()) if node is not victim else ():
                if one.at >= began and (shard := shards.get((one.plugin, one.id))) is not None:
                    taken.setdefault((one.plugin, shard), one.at)
        return owned <= taken.keys()

    wait_until(all_taken, f"others deliver {sorted(owned)}", 90)
    acknowledged = sorted(one.at for one in load.acknowledged if one.gateway != victim.name and one.at > began - 0.5)
    victim.kill()
    victim.start()
    load.wait_acknowledged(20, by=victim.name)
    return Takeover(
        gap=max(later - earlier for earlier, later in pairwise(acknowledged)),
        taken_over=max(taken[one] for one in owned) - began,
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
