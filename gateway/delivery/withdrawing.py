"""Takes events back that were not handed to the plugin yet, because an operator has cancelled their retry or replay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gateway.delivery.machine import Machine
from gateway.delivery.state import State

_WITH_US: Final = (State.QUEUED, State.WAITING, State.RETRYING, State.FETCHING)


def withdraw_retried(machine: Machine, seqs: Collection[int]) -> set[int]:
    """Withdraw parked events; returns the positions of those that the plugin has, or has had since they were parked."""
    parked, kept, taken = machine.parked, set[int](), []
    for seq in seqs:
        item = parked.items.get(seq)
        if parked.is_leaving(seq):
            kept.add(seq)
        elif item is not None:
            if item.state in _WITH_US and not item.failures:
                taken.append(item)
            else:
                kept.add(seq)
    parked.take_back(item.seq for item in taken)
    machine.conversations.withdraw(taken, State.DEAD)
    machine.unsettled.set()
    return kept


def withdraw_replayed(machine: Machine) -> list[int]:
    """Withdraw the events of a replay that are queued; returns their positions. What has failed in a replay is retried
    like any other event."""
    queued = [item for item in machine.conversations if item.replay and item.row is None and item.state is State.QUEUED]
    machine.conversations.withdraw(queued, State.UNREAD)
    return [item.seq for item in queued]
