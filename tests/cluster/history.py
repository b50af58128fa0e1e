"""The checks after every torture of a cluster, over its whole history: what was acknowledged, what the journal has, and
what the plugins took on all gateways."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
from load import Acknowledged
from recorder import Delivery


class Kept(NamedTuple):
    """An event of the journal. `action` is the sender's name for it, `conversation` None where it has none."""

    seq: int
    id: str
    action: str
    conversation: str | None

    @property
    def number(self) -> int:
        """The event's place among those that its sender sent, one after the other."""
        return int(self.action.rpartition("-")[2])


class Findings(msgspec.Struct):
    """How many events there were, and what was wrong with them; every list must be empty. `repeats` are deliveries of
    what the plugin had before, `late` those of an owner that has lost the shard, which had the call in hand."""

    acknowledged: int
    kept: int
    delivered: int = 0
    repeats: int = 0
    late: int = 0
    lost: list[str] = []
    """Acknowledged, but not in the journal, or another event there."""
    kept_twice: list[str] = []
    """One event of a sender under two ids, in spite of its equal body."""
    kept_out_of_order: list[str] = []
    """The journal has a conversation in another order than the one of its acknowledgements."""
    skipped: list[str] = []
    """In the journal, but a plugin never had it."""
    unknown: list[str] = []
    """A plugin had it, but the journal has not."""
    out_of_order: list[str] = []
    """A plugin got an event after a later one of its conversation, and had not had it before; or got it without its
    being marked as redelivered; or one owner went back."""
    repeated_silently: list[str] = []
    """Delivered twice to a plugin, without saying in either that the plugin may have had it before."""
    zombies: list[str] = []
    """Deliveries by an owner that had lost the shard before, beyond the one call that each conversation may have had in
    hand."""

    def faults(self) -> list[str]:
        """Every kind of fault that there was, with examples."""
        found = msgspec.to_builtins(self)
        return [
            f"{kind}: {len(faults)}, such as {faults[:3]}"
            for kind, faults in found.items()
            if type(faults) is list and faults
        ]

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.kept} kept, {self.delivered} delivered, {self.repeats} of them"
            f" again, {self.late} late; lost {len(self.lost)}, kept twice {len(self.kept_twice)}, kept out of order"
            f" {len(self.kept_out_of_order)}, skipped {len(self.skipped)}, unknown {len(self.unknown)}, out of order"
            f" {len(self.out_of_order)}, repeated silently {len(self.repeated_silently)}, zombies {len(self.zombies)}"
        )


def judge(
    acknowledged: Iterable[Acknowledged], kept: Sequence[Kept], deliveries: Iterable[Delivery], plugins: Sequence[str]
) -> Findings:
    """Compare a history with what it must be. `plugins` are those that take every event. The cluster has delivered
    everything that it will."""
    promised = list(acknowledged)
    journal = {one.id: one for one in kept}
    counts = Counter(one.action for one in kept)
    findings = Findings(acknowledged=len(promised), kept=len(kept))
    findings.lost = [one.id for one in promised if one.id not in journal or journal[one.id].action != one.action]
    findings.kept_twice = [action for action, count in counts.items() if count > 1]
    furthest: dict[str, int] = {}
    for one in sorted(kept):
        if one.conversation is not None:
            if one.number < furthest.get(one.conversation, 0):
                findings.kept_out_of_order.append(one.id)
            furthest[one.conversation] = max(one.number, furthest.get(one.conversation, 0))
    by_plugin: dict[str, list[Delivery]] = {plugin: [] for plugin in plugins}
    for delivery in deliveries:
        by_plugin[delivery.plugin].append(delivery)
    for plugin, taken in by_plugin.items():
        _judge_plugin(findings, journal, plugin, sorted(taken))
    return findings


def _judge_plugin(findings: Findings, journal: dict[str, Kept], plugin: str, taken: Sequence[Delivery]) -> None:
    times = Counter(one.id for one in taken)
    silently = Counter(one.id for one in taken if not one.redelivered)
    findings.delivered += len(taken)
    findings.repeats += len(taken) - len(times)
    findings.skipped += [f"{plugin} {event_id}" for event_id in journal if event_id not in times]
    findings.unknown += [f"{plugin} {event_id}" for event_id in times if event_id not in journal]
    findings.repeated_silently += [f"{plugin} {event_id}" for event_id, count in silently.items() if count > 1]
    conversations: dict[str, list[Delivery]] = defaultdict(list)
    for one in taken:
        if one.id in journal and (conversation := journal[one.id].conversation) is not None:
            conversations[conversation].append(one)
    for deliveries in conversations.values():
        in_time = _without_late(findings, deliveries)
        _judge_order(findings, journal, in_time)


def _without_late(findings: Findings, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """One conversation's deliveries to a plugin, without the calls that owners may have had in hand when they lost the
    shard: one of each owner, since a conversation has one event under way."""
    epoch = 0
    in_time: list[Delivery] = []
    late: list[Delivery] = []
    for one in deliveries:
        (late if one.epoch < epoch else in_time).append(one)
        epoch = max(epoch, one.epoch)
    findings.late += len(late)

    def owner(one: Delivery) -> tuple[int, str]:
        return one.epoch, one.node

    for _, group in groupby(sorted(late, key=owner), owner):
        in_hand, *others = sorted(group)
        if others:
            findings.zombies += [f"{one.plugin} {one.id}" for one in others]
            in_time += [in_hand, *others]
    return sorted(in_time)


def _judge_order(findings: Findings, journal: dict[str, Kept], deliveries: Sequence[Delivery]) -> None:
    had: set[str] = set()
    furthest, furthest_of = 0, dict[int, int]()
    for one in deliveries:
        number = journal[one.id].number
        again = one.redelivered and one.id in had
        if (number < furthest and not again) or number < furthest_of.get(one.epoch, 0):
            findings.out_of_order.append(f"{one.plugin} {one.id}")
        had.add(one.id)
        furthest = max(furthest, number)
        furthest_of[one.epoch] = max(number, furthest_of.get(one.epoch, 0))
