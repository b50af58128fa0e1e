"""Negative controls: clusters that are made wrong in one respect, in which the checker must find faults. Without them
it would be unknown whether it could."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Final

from history import Findings
from whole_cluster import Cluster

_FUNCTION: Final = "SELECT pg_get_functiondef('gateway_append'::regproc)"
_LOCK: Final = re.compile(r"UPDATE head SET seq = head\.seq \+ size RETURNING head\.seq - size INTO before;")
_SEQUENCE: Final = "before := nextval('positions') * 10000; PERFORM pg_sleep(random() * 0.01);"
"""The pause is what a larger group, or a slower disk, takes."""
_NOTIFY: Final = re.compile(r"(?=PERFORM pg_notify)")


def numbers_from_a_sequence(folder: Path, events: int = 4000) -> Findings:
    """Positions come from a sequence instead of the head row: they become visible out of order, and plugins skip some.

    The function in the database is changed, so the gateways are the real ones. A group has at most 10,000 events."""
    with Cluster(folder) as cluster:
        cluster.start()
        source = cluster.ask(_FUNCTION)
        source, locks = _LOCK.subn(_SEQUENCE, source)
        source, notes = _NOTIFY.subn("UPDATE head SET seq = greatest(head.seq, newest); ", source, count=1)
        assert (locks, notes) == (1, 1), "gateway_append has another text than this control expects"
        source = source.replace("UPDATE head SET seq = newest WHERE head.seq <> newest;", "")
        newest = int(cluster.ask("SELECT seq FROM head"))
        cluster.ask(f"CREATE SEQUENCE positions START {newest // 10_000 + 1}")
        cluster.ask(source)
        with cluster.load(conversations=96, pause=0.0) as load:
            load.wait_acknowledged(events, 180)
            load.finish(60)
        cluster.wait_delivered()
        return cluster.judge(load.acknowledged)


def standby_cut_off_before_the_kill(folder: Path, *, synchronous: bool) -> Findings:
    """The primary loses its link to the standby a second before it dies. Where it does not wait for the standby, what
    it acknowledged in that second is lost."""
    with Cluster(folder, synchronous=synchronous, text="", plugins=()) as cluster:
        cluster.start()
        with cluster.load() as load:
            load.wait_acknowledged(50)
            cluster.network.cut(*cluster.pair.hosts)
            time.sleep(1)
            cluster.pair.promote()
            cluster.network.heal(*cluster.pair.hosts)
            for node in cluster.nodes:
                load.wait_acknowledged(1, by=node.name)
            load.finish(60)
        return cluster.judge(load.acknowledged)


def owner_frozen(folder: Path, *, patch: str = "", frozen: float = 13.0) -> Findings:
    """The owner of the plugins' cursors stands still for longer than its lease, and goes on. With `patch` it does not
    look at its lease, and nothing compares its epoch: it goes on to deliver, beside the new owner."""
    with Cluster(folder) as cluster:
        cluster.start(patch)
        with cluster.load() as load:
            load.wait_acknowledged(100)
            owner = cluster.wait_owner("single")
            load.wait_acknowledged(100)
            owner.signal(signal.SIGSTOP)
            time.sleep(frozen)
            owner.signal(signal.SIGCONT)
            for _ in range(3):
                load.wait_acknowledged(200)
            load.finish(60)
        if not patch:  # else a cursor may have been moved anywhere
            cluster.wait_delivered()
        return cluster.judge(load.acknowledged)
