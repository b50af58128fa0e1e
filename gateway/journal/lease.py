"""How long the owner of a cursor may hand out its events."""

from __future__ import annotations

from collections.abc import Callable


class Lease:
    """Until when the owner of a cursor may hand out events. It is looked at before each call of a plugin, also from a
    plugin's thread; the journal moves `until` on with each renewal. A process that stood still for longer than that
    finds it over, although another gateway may have the cursor since."""

    __slots__ = ("_clock", "epoch", "lost", "until")

    def __init__(self, epoch: int, until: float, clock: Callable[[], float]) -> None:
        """`epoch` is the cursor's. `until` is in seconds of `clock`, which must not go back."""
        self.epoch = epoch
        self.until = until
        self.lost = False
        """Whether the cursor is known to have another owner."""
        self._clock = clock

    @property
    def is_over(self) -> bool:
        """Whether nothing may be handed out now. A lease that is over may be renewed, unless it is lost."""
        return self.lost or self._clock() >= self.until
