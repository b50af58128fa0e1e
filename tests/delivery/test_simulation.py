"""Three hundred simulated histories, and machines broken on purpose that the simulation must catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulation import Broken, simulate

from gateway.delivery.conversations import Conversations
from gateway.delivery.items import Conversation, Item
from gateway.delivery.parked import ParkedEvents
from gateway.delivery.settling import Settler

CHUNK = 30
FOUND = (68, 1068, 498861488, 498862749, 498864252, 498866386)
"""Seeds that have found something. What earlier forms of the simulation found has tests of its own."""


@pytest.mark.parametrize("first", range(0, 300, CHUNK))
def test_simulated_histories_keep_every_promise(first: int) -> None:
    """Nothing is lost, order holds within conversations, repeats are marked and have a reason, dead letters have had
    their attempts, and everything is settled in the end."""
    for seed in range(first, first + CHUNK):
        simulate(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_what_the_simulation_has_found_stays_repaired(seed: int) -> None:
    simulate(seed)


def join_none(self: Conversations, item: Item, key: str) -> Conversation:
    item.conversation = Conversation(key)
    return item.conversation


def forget_to_write(self: ParkedEvents, cursor: int) -> tuple[list[Any], list[int]]:
    return [], []


async def ignore_failure(self: Settler, taken: list[Any], error: Exception) -> None:
    await self._settle(taken)


SABOTAGE: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "every event is a conversation of its own": (Conversations, "join", join_none),
    "rows are not written": (ParkedEvents, "changes", forget_to_write),
    "a failed checkpoint counts as one that succeeded": (Settler, "_undo", ignore_failure),
}


@pytest.mark.parametrize("fault", SABOTAGE)
def test_a_broken_delivery_is_caught(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The negative control: within a hundred seeds the simulation notices."""
    monkeypatch.setattr(*SABOTAGE[fault])
    monkeypatch.setattr("simulation.PATIENCE", 2_000.0)
    with pytest.raises(Broken, match=r"seed \d+: (.|\n)*python tests/delivery/simulation.py \d+"):
        for seed in range(100):
            simulate(seed)
