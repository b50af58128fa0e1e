"""Slows down those who guess a password: after each failure, their address waits for twice as long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.address import address_group

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0
FORGET_SECONDS: Final = 900.0
"""An address without a failure for this long begins with the first wait again."""
MOST_ADDRESSES: Final = 4096


class Attempts:
    """The failed attempts of the `MOST_ADDRESSES` addresses that failed last."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By address: the time of its last failure, and the seconds to wait after it."""

    def wait(self, client: str) -> float:
        """The seconds until a password from this address is compared again; 0.0 where it is now."""
        last, seconds = self._failures.get(address_group(client), (0.0, 0.0))
        return max(0.0, last + seconds - self._clock()) if seconds else 0.0

    def failed(self, client: str) -> None:
        """A password from this address was wrong."""
        group, now = address_group(client), self._clock()
        last, seconds = self._failures.pop(group, (now, 0.0))
        again = seconds and now - last < FORGET_SECONDS
        self._failures[group] = now, min(seconds * 2, LONGEST_SECONDS) if again else FIRST_SECONDS
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """A password from this address was right: its failures are forgotten."""
        self._failures.pop(address_group(client), None)
