"""The checker of a cluster's history finds what it is there to find, in histories that are made up."""

from __future__ import annotations

import pytest
from history import Findings, Kept, judge
from load import Acknowledged
from recorder import Delivery

KEPT = [Kept(1, "a", "t1-1", "t1"), Kept(2, "b", "t1-2", "t1"), Kept(3, "x", "t8-1", None), Kept(4, "c", "t1-3", "t1")]
PROMISED = [Acknowledged(one.id, one.action, one.conversation, one.number, 0.0, "gw1") for one in KEPT]


def history(text: str, node: str = "gw1") -> list[Delivery]:
    """Deliveries to one plugin, one after the other: the event's id, its epoch, and `r` where it is marked as
    redelivered; `@` and a node's name set the node of those after it."""
    found: list[Delivery] = []
    for at, word in enumerate(text.split()):
        if word.startswith("@"):
            node = word[1:]
        else:
            found.append(Delivery(float(at), node, "crm", int(word[1]), 1, word.endswith("r"), word[0]))
    return found


def findings(text: str, kept: list[Kept] = KEPT, promised: list[Acknowledged] = PROMISED) -> Findings:
    return judge(promised, kept, history(text), ["crm"])


@pytest.mark.parametrize(
    "sound",
    [
        "a1 b1 x1 c1",
        "a1 x1 b1 @gw2 a2r b2r x2r c2r",  # another owner begins at the cursor
        "a1 b1 @gw2 a2r b2r x2 c2r @gw1 c1",  # a call in hand when its process was frozen
        "a1 b1 @gw2 b2r c2r x2 @gw3 b3r c3r @gw1 b1r @gw2 c2",  # two owners with a call in hand
        "a1 a1r b1 x1 c1",  # the plugin failed after it had written
    ],
)
def test_a_sound_history_has_no_faults(sound: str) -> None:
    """Repeats that say so, takeovers, and calls that end late are allowed."""
    assert findings(sound).faults() == []


@pytest.mark.parametrize(
    ("broken", "fault", "example"),
    [
        ("a1 b1 c1", "skipped", "crm x"),
        ("a1 b1 x1 c1 z1", "unknown", "crm z"),
        ("b1 a1 x1 c1", "out_of_order", "crm a"),
        ("a1 x1 c1 b1r", "out_of_order", "crm b"),  # marked, but the plugin never had it before
        ("a1 b1 x1 c1 b1r", "out_of_order", "crm b"),  # one owner goes back
        ("a1 b1 x1 @gw2 a2r b2 c2", "repeated_silently", "crm b"),
        ("a1 x1 x1 b1 c1", "repeated_silently", "crm x"),
        ("a1 @gw2 a2r b2 x2 c2 @gw1 b1r c1r", "zombies", "crm c"),
        ("a1 @gw2 a2r x2 b2r @gw1 b1 c1 @gw2 c2r", "zombies", "crm c"),
    ],
)
def test_each_fault_of_delivery_is_found(broken: str, fault: str, example: str) -> None:
    """Skipped, invented, out of order, repeated without a mark, and delivered by an owner of the past."""
    assert example in getattr(findings(broken), fault)


def test_what_was_acknowledged_must_be_kept_as_it_was() -> None:
    """Lost, or another event under its id."""
    sound = "a1 b1 x1 c1"
    assert findings(sound, KEPT[:-1]).lost == ["c"]
    swapped = [PROMISED[0]._replace(id="b"), *PROMISED[1:]]
    assert findings(sound, promised=swapped).lost == ["b"]


def test_the_journal_has_each_event_once_and_in_the_order_of_its_conversation() -> None:
    """A repeated request is one event; an event is acknowledged before the next of its conversation is sent."""
    twice = [*KEPT, Kept(5, "d", "t1-3", "t1")]
    assert findings("a1 b1 x1 c1 d1", twice).kept_twice == ["t1-3"]
    swapped = [Kept(1, "b", "t1-2", "t1"), Kept(2, "a", "t1-1", "t1"), *KEPT[2:]]
    assert findings("a1 b1 x1 c1", swapped).kept_out_of_order == ["a"]


def test_zombies_get_no_allowance_in_the_order() -> None:
    """Where an owner of the past goes on, each of its deliveries counts for the order, too."""
    found = findings("a1 @gw2 a2r b2 x2 c2 @gw1 b1 c1")
    assert found.zombies == ["crm c"]
    assert found.out_of_order == ["crm b"]
    assert len(found.faults()) == 3
    assert "zombies 1" in str(found)
