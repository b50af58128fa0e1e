"""The types of single keys that only the gateway's own tables have."""

from __future__ import annotations

import re
import socket
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec

from gateway.config.field_types import Duration, Size, show

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=64)]
Filled = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Matching(str):
    """A string that matches a pattern as a whole."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    expected: ClassVar[str]

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not cls.pattern.fullmatch(value):
            raise ValueError(f"expected {cls.expected}, found {show(value)}")
        return cls(value)


class Host(_Matching):
    """An address to listen on, or a host name."""

    pattern = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)
    expected = 'an address or a host name such as "127.0.0.1"'


class BasePath(_Matching):
    """The path of the public listener below which all its requests are."""

    pattern = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
    expected = 'a path such as "/webio"'


class NodeName(_Matching):
    """What this gateway is called in status, logs and metrics."""

    pattern = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
    expected = "a name of at most 63 letters, digits, '.', '_' and '-', with a letter or a digit at both ends"

    @classmethod
    def of_host(cls) -> Self:
        """The host's name, with what a node's name cannot have replaced by `-`."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63].strip("._-")
        return cls(name or "gateway")


class Endpoint(_Matching):
    """Where traces are sent, by OTLP over HTTP."""

    pattern = re.compile(r"https?://[^\s/@?#]+(/[^\s?#]*)?", re.ASCII)
    expected = 'an address such as "http://127.0.0.1:4318/v1/traces"'


class BodySize(Size):
    """A limit for bodies: at most what one row of the journal can hold."""

    least, most, limits = 1, 2**29, 'larger than 0 and at most "512 MiB"'


class JournalSize(Size):
    """A limit for the journal."""

    least, limits = 1, 'larger than 0 and at most "1024 TiB"'


class Pause(Duration):
    """A duration longer than 0 s."""

    allows_zero = False
