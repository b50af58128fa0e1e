"""What a plugin takes, as the journal keeps it: names such as `payment`, `payment*` or `*@acme`.

- `payment`: the events of this hook that can be read, and had it when they came.
- `payment*`: those that cannot be read, too; `*`: every event.
- `payment@acme`, `payment*@acme`, `*@acme`: the same, of one organisation only.
"""

from __future__ import annotations

from gateway.events import UNKNOWN


def names_of(hook: str, organisation: str, readable: bool, name: str | None) -> tuple[str, ...]:
    """The names by which an event is taken. One that came by a `name` was unknown then."""
    names: tuple[str, ...] = ("*", f"{hook if name is None else UNKNOWN}*")
    if readable and name is None:
        names += (hook,)
    return names + tuple(f"{one}@{organisation}" for one in names)
