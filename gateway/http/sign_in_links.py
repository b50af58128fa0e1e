"""Links to the dashboard that sign in once, for an operator at a terminal."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

SECONDS: Final = 300.0
"""How long a link may be used."""
MOST: Final = 20
"""Links that wait to be used; the oldest ends for a further one."""
PATH: Final = "/sign-in/link/"


class SignInLink(msgspec.Struct, kw_only=True):
    """The path of a link that signs a browser in as an operator: once, within 5 minutes."""

    path: str


class SignInLinks:
    """`clock` is in seconds. Of a link only its hash is kept. They end with the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def new(self) -> str:
        """The path of a new link, with 256 random bits."""
        token = secrets.token_urlsafe(32)
        self._ends[_hash(token)] = self._clock() + SECONDS
        if len(self._ends) > MOST:
            self._ends.popitem(last=False)
        return PATH + token

    def use(self, token: str) -> bool:
        """Whether a link may be used. It may not once more."""
        return self._ends.pop(_hash(token), 0.0) > self._clock()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
