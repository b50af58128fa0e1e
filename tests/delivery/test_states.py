"""The states of an event: the picture in the documentation, and what the machine allows."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

import gateway
from gateway.delivery.items import Item
from gateway.delivery.state import TRANSITIONS, State

DOCUMENT = Path(gateway.__file__).parent.parent / "docs" / "architecture.md"


def diagram() -> str:
    found = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, "docs/architecture.md has no state diagram"
    return found[1]


def test_the_documentation_draws_the_transitions_of_the_code() -> None:
    """The same transitions with the same reasons, a line each."""
    drawn = re.findall(r"^ *(\w+) --> (\w+) : (.+)$", diagram(), re.MULTILINE)
    assert drawn == [(str(before), str(after), reason) for (before, after), reason in TRANSITIONS.items()]


def test_the_documentation_draws_beginning_and_end() -> None:
    """An event begins where no transition leads but a rewind, and ends where none leads away."""
    ends = {str(state) for state in State if not any(before is state for before, _ in TRANSITIONS)}
    assert re.findall(r"\[\*\] --> (\w+)$", diagram(), re.MULTILINE) == [State.UNREAD]
    assert set(re.findall(r"^ *(\w+) --> \[\*\]$", diagram(), re.MULTILINE)) == ends == {"settled", "dead"}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_an_event_moves_as_drawn_only(before: State, after: State) -> None:
    item = Item(1, None, None)
    item.state = before
    if (before, after) in TRANSITIONS:
        item.move_to(after)
        assert item.state is after
    else:
        with pytest.raises(RuntimeError, match=f"event 1 cannot go from {before} to {after}"):
            item.move_to(after)
