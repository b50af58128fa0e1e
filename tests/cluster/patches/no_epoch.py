"""A negative control: an owner does not look at its lease, and no settlement compares its epoch."""

from __future__ import annotations

from gateway.journal.lease import Lease
from gateway.journal.postgresql import settle_function

Lease.is_over = property(lambda self: False)  # type: ignore[method-assign,assignment]
assert " AND epoch = of_epoch" in settle_function.SETTLE
settle_function.SETTLE = settle_function.SETTLE.replace(" AND epoch = of_epoch", "")  # type: ignore[misc]

from gateway.journal.postgresql import settling  # noqa: E402

for _name in ("_MOVE", "_OWNED", "_RELEASE"):
    _text = getattr(settling, _name)
    assert " AND epoch = $3" in _text
    setattr(settling, _name, _text.replace(" AND epoch = $3", " AND $3::bigint > 0"))
