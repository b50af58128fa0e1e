"""URLs and bodies with `{name}` in them, which are replaced by escaped values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

PARAMETERS: Final = ("customer_uid", "outbound_channel_address", "address_digits", "organisation")
Given = Mapping[str, str]

_NAME = re.compile(r"\{([^{}]*)\}")
_ORIGIN = re.compile(r"(https?)://([^/?#{}]+)(?=[/?#]|$)", re.IGNORECASE)


class Unfit(Exception):
    """A value that cannot be part of a path. No customer has such a UID."""


class UrlTemplate:
    """A URL with parameters in its path and its query, such as `https://crm/customers/{customer_uid}`."""

    __slots__ = ("_path", "_query", "origin", "parameters")

    def __init__(self, source: str) -> None:
        """`ValueError` with a sentence where `source` is not such a URL."""
        origin = _ORIGIN.match(source)
        if origin is None:
            raise ValueError('expected a URL such as "https://crm.internal/customers/{customer_uid}"')
        if "@" in origin[2]:
            raise ValueError("the URL must not contain a user or password; write basic or bearer")
        if "#" in source:
            raise ValueError("the URL must not have a part after #")
        self.origin = origin[0]
        self._path, mark, query = source[origin.end() :].partition("?")
        self._query = mark + query
        self.parameters = names_in(source)
        try:
            httpx.URL(self.write(dict.fromkeys(PARAMETERS, "x")))
        except httpx.InvalidURL as error:
            raise ValueError(f"is not a URL: {error}") from None

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str):
            raise ValueError('expected a URL such as "https://crm.internal/customers/{customer_uid}"')
        return cls(value)

    def write(self, given: Given) -> str:
        """The URL for these values; `Unfit` where one would change the structure of the path."""
        path = _NAME.sub(lambda match: _segment(given[match[1]]), self._path)
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise Unfit
        return self.origin + path + _NAME.sub(lambda match: quote(given[match[1]], safe=""), self._query)

    def __repr__(self) -> str:
        return f"UrlTemplate({self.origin + self._path + self._query!r})"


def _segment(value: str) -> str:
    """A value in a path. Slashes are refused, since servers and proxies treat escaped ones differently."""
    if "/" in value or "\\" in value:
        raise Unfit
    return quote(value, safe="")


def names_in(source: Any) -> frozenset[str]:
    """The parameters in a text, or in the texts of a JSON value; `ValueError` for an unknown one."""
    if isinstance(source, dict):
        return frozenset[str]().union(*map(names_in, source.values()))
    if isinstance(source, list):
        return frozenset[str]().union(*map(names_in, source))
    found = frozenset(_NAME.findall(source)) if isinstance(source, str) else frozenset[str]()
    unknown = sorted(found.difference(PARAMETERS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PARAMETERS)
        raise ValueError(f"unknown parameter {{{unknown[0]}}}; known: {known}")
    return found


def filled(source: Any, given: Given) -> Any:
    """A JSON value with the parameters in its texts put in; keys stay as they are."""
    if isinstance(source, dict):
        return {key: filled(value, given) for key, value in source.items()}
    if isinstance(source, list):
        return [filled(value, given) for value in source]
    return _NAME.sub(lambda match: given[match[1]], source) if isinstance(source, str) else source
