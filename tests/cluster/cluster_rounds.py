"""Rounds of disasters under load, and the verdict on the whole history after them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from disasters import EACH, OF_DATABASES, OF_GATEWAYS, Disaster, frozen
from history import Findings
from load import Load
from nodes import Node
from whole_cluster import Cluster, Say, silent

AGAIN_WITHIN = 60.0
"""Seconds within which each gateway must acknowledge again after a round; 5 are promised, on a machine that is free."""


class Outcome(msgspec.Struct):
    """What was found. `struck` counts disasters, `broken` connections without an answer; `slowest` is the longest time,
    in seconds, until each gateway acknowledged again after a round."""

    findings: Findings
    answers: dict[int, int]
    unexpected: list[str]
    broken: int
    struck: dict[str, int]
    slowest: float

    def faults(self) -> list[str]:
        return [*self.findings.faults(), *self.unexpected]


def cluster_rounds(folder: Path, rounds: int, seed: str, *, say: Say = silent) -> Outcome:
    """`rounds` times one or two disasters under load on three gateways, then the verdict."""
    short = rounds <= len(EACH)
    chance = random.Random(seed)
    struck: Counter[str] = Counter()
    slowest = 0.0
    gone: list[str] = []
    with Cluster(folder) as cluster:
        cluster.start()
        say("the cluster has started")
        with cluster.load(conversations=16 if short else 24, pause=0.25 if short else 0.15) as load:
            load.wait_acknowledged(50)
            for number in range(rounds):
                chosen = _choose(chance, cluster.nodes, number, rounds)
                names = " and ".join(f"{disaster.__name__} ({node.name})" for disaster, node in chosen)
                struck.update(disaster.__name__ for disaster, _ in chosen)
                began = time.monotonic()
                try:
                    with ExitStack() as stack:
                        for disaster, node in chosen:
                            stack.enter_context(disaster(cluster, node, chance))
                        time.sleep(_duration(chance, chosen, short=short))
                    again = _wait_for_all(cluster, load, gone)
                except AssertionError as error:
                    raise AssertionError(f"round {number + 1}, {names}: {error}") from error
                slowest = max(slowest, again)
                took = time.monotonic() - began
                say(f"{number + 1}: {names}, {took:.1f} s, all acknowledge {again:.1f} s after it,"
                    f" {len(load.acknowledged)} in all")  # fmt: skip
            load.finish(60)
        began = time.monotonic()
        cluster.wait_delivered()
        say(f"everything is delivered {time.monotonic() - began:.1f} s later")
        exits = [node.terminate() for node in cluster.nodes]
        return Outcome(
            findings=cluster.judge(load.acknowledged),
            answers=dict(load.answers),
            unexpected=[*load.unexpected, *gone, *(f"exit code {code} after SIGTERM" for code in exits if code)],
            broken=load.broken,
            struck=dict(struck),
            slowest=slowest,
        )


def _choose(chance: random.Random, nodes: Sequence[Node], number: int, rounds: int) -> list[tuple[Disaster, Node]]:
    """One disaster, or two at once; in a short run each of the most important."""
    one, other = chance.sample(list(nodes), 2)
    if rounds <= len(EACH):
        return [(EACH[number], one)]
    kind = chance.random()
    if kind < 0.45:
        return [(chance.choice(OF_GATEWAYS), one)]
    if kind < 0.7:
        return [(chance.choice(OF_DATABASES), one)]
    second = chance.choice(OF_GATEWAYS if kind < 0.85 else OF_DATABASES)
    return [(chance.choice(OF_GATEWAYS), one), (second, other)]


def _duration(chance: random.Random, chosen: Sequence[tuple[Disaster, Node]], *, short: bool) -> float:
    """How long a disaster lasts, in seconds: mostly a moment, at times longer than a lease."""
    if short:
        return 11.0 if chosen[0][0] is frozen else 1.0
    if len(chosen) > 1 or chosen[0][0] in OF_DATABASES or chance.random() < 0.6:
        return chance.uniform(0.1, 4.0)
    return chance.uniform(7.0, 14.0)


def _wait_for_all(cluster: Cluster, load: Load, gone: list[str]) -> float:
    """Wait until each gateway acknowledges again; how many seconds that took. One that has ended by itself is noted,
    and started again, as a service manager would."""
    began = time.monotonic()
    start = len(load.acknowledged)
    while {node.name for node in cluster.nodes} - {one.gateway for one in load.acknowledged[start:]}:
        for node in cluster.nodes:
            if not node.lives:
                gone.append(f"{node.name} ended by itself: {node.words()[-500:]}")
                node.start()
        if time.monotonic() - began > AGAIN_WITHIN:
            silent_ones = {node.name for node in cluster.nodes} - {one.gateway for one in load.acknowledged[start:]}
            raise AssertionError(f"{sorted(silent_ones)} did not acknowledge again within {AGAIN_WITHIN:g} s")
        time.sleep(0.05)
    return time.monotonic() - began
