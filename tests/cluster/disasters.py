"""What can happen to a cluster: each is a context manager that strikes, and mends on leaving."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from nodes import Node
from whole_cluster import Cluster

CLOCK: Final = 300
"""Seconds by which a wrong clock is wrong."""
Disaster = Callable[[Cluster, Node, random.Random], AbstractContextManager[None]]


@contextmanager
def killed(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """`kill -9` to a gateway."""
    node.kill()
    yield
    node.start()


@contextmanager
def terminated(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """A gateway is stopped as by its service manager, and must end with 0."""
    code = node.terminate()
    assert code == 0, f"{node.name} ended with {code} after SIGTERM: {node.words()[-2000:]}"
    yield
    node.start()


@contextmanager
def frozen(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """All of a gateway's processes stand still, and go on without knowing it."""
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


@contextmanager
def wrong_clock(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """A gateway starts again with a clock that is five minutes off."""
    node.kill()
    yield
    node.start(clock=chance.choice((-CLOCK, CLOCK)))


@contextmanager
def cut_off(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """A gateway does not reach the primary any more."""
    there = cluster.pair.primary.host
    cluster.network.cut(node.host, there)
    try:
        yield
    finally:
        cluster.network.heal(node.host, there)


@contextmanager
def standby_cut_off(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """The primary does not reach its standby: no commit ends meanwhile."""
    cluster.network.cut(*cluster.pair.hosts)
    try:
        yield
    finally:
        cluster.network.heal(*cluster.pair.hosts)
    cluster.pair.wait_streaming()


@contextmanager
def failed_over(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """The primary dies, and the standby is promoted at once or a little later."""
    cluster.pair.primary.kill()
    time.sleep(chance.choice((0.0, chance.uniform(0.0, 2.0))))
    cluster.pair.promote()
    yield
    cluster.pair.rebuild()


@contextmanager
def two_primaries(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """The standby is promoted while the primary, cut off from it, goes on to serve the gateways for some time."""
    pair, old = cluster.pair, cluster.pair.primary
    cluster.network.cut(*pair.hosts)
    time.sleep(chance.uniform(0.0, 1.0))
    pair.replace_primary()
    try:
        yield
    finally:
        old.kill()
        cluster.network.heal(*pair.hosts)
    pair.rebuild()


@contextmanager
def primary_vanished(cluster: Cluster, node: Node, chance: random.Random) -> Iterator[None]:
    """The primary's host loses its network: no gateway is told that its connections have ended."""
    pair, old = cluster.pair, cluster.pair.primary
    assert pair.standby is not None
    others = [*(one.host for one in cluster.nodes), pair.standby.host]
    for other in others:
        cluster.network.cut(old.host, other)
    pair.replace_primary()
    try:
        yield
        time.sleep(chance.uniform(0.0, 10.0))
    finally:
        old.kill()
        for other in others:
            cluster.network.heal(old.host, other)
    pair.rebuild()


OF_GATEWAYS: Final[tuple[Disaster, ...]] = (killed, terminated, frozen, frozen, wrong_clock, cut_off, cut_off)
OF_DATABASES: Final[tuple[Disaster, ...]] = (standby_cut_off, failed_over, two_primaries, primary_vanished)
EACH: Final[tuple[Disaster, ...]] = (killed, frozen, failed_over, cut_off, wrong_clock)
"""What a run of five rounds has."""
