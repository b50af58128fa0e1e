"""A negative control: an owner does not look at its lease, and nothing that it writes compares its epoch."""

from __future__ import annotations

from types import ModuleType

from gateway.journal.lease import Lease
from gateway.journal.postgresql import settle_function


def without(module: ModuleType, condition: str, *names: str) -> None:
    """Take a condition out of statements."""
    for name in names:
        text = getattr(module, name)
        assert condition in text, f"{module.__name__}.{name} has changed"
        setattr(module, name, text.replace(condition, ""))


Lease.is_over = property(lambda self: False)  # type: ignore[method-assign,assignment]
without(settle_function, " AND epoch = of_epoch", "SETTLE")

from gateway.journal.postgresql import moving, settling  # noqa: E402  (they are made of it)

without(moving, " AND c.epoch = m.epoch", "_MOVE")
for _name in ("_RUNNING", "_SURVIVED", "_RELEASE"):
    _text = getattr(settling, _name)
    assert " AND epoch = $3" in _text, f"{_name} has changed"
    setattr(settling, _name, _text.replace(" AND epoch = $3", " AND $3::bigint > 0"))
