"""The id of a request: the same in the log and in the answer to a request that is refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any, Final

from gateway.config.field_types import Network

HEADER: Final = b"x-request-id"
_SANE: Final = re.compile(rb"(?=.*[A-Za-z])[A-Za-z0-9._=-]{8,64}")
"""Text without a letter may be a phone number."""


class RequestId:
    """Its text is made when it is first needed, so that a request without a log line does not pay for it. It is what a
    trusted proxy has in `X-Request-Id`, where that is plain text of 8 to 64 characters, and else random."""

    __slots__ = ("_proxies", "_scope", "_text")

    def __init__(self, scope: Any = None, proxies: Sequence[Network] = ()) -> None:
        self._scope = scope
        self._proxies = proxies
        self._text = ""

    def __str__(self) -> str:
        if not self._text:
            self._text = self._given() or secrets.token_hex(8)
        return self._text

    def _given(self) -> str | None:
        if not self._proxies or not self._scope.get("client"):
            return None
        given = [value for name, value in self._scope["headers"] if name == HEADER]
        client = str(self._scope["client"][0])
        if len(given) != 1 or not _SANE.fullmatch(given[0]) or not any(client in network for network in self._proxies):
            return None
        return str(given[0], "ascii")
