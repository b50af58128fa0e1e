"""Settings of connections: a URL whose password is not in the config, and certificates."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec
from gateway_connections import client_context

from gateway import Duration, Secret


class Wait(Duration):
    """A duration longer than 0 s."""

    allows_zero: ClassVar = False


ConfirmTimeout = Annotated[
    Wait, msgspec.Meta(description="How long the server may take to answer, and to confirm an event.")
]
LONGEST_WAIT: Final = Wait(10)
"""The default of a `confirm_timeout: ConfirmTimeout`."""
InFlightLimit = Annotated[
    int, msgspec.Meta(ge=1, le=10000, description="How many events may be unconfirmed at the same time.")
]
MOST_IN_FLIGHT: Final = 1000
"""The default of an `in_flight: InFlightLimit`."""
_PASSWORD: Final = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_ADVICE: Final = (
    'a password must not be in the config file; leave it out and write password = { file = "path" }, '
    'or the whole URL as url = { env = "NAME" }'
)


class ServerUrl:
    """The URL of a server. In TOML it is a text without a password, `{ file = ... }` or `{ env = ... }`. A subclass
    lists its `schemes`, the default port of each, and an `example`."""

    schemes: ClassVar[dict[str, int]] = {}
    example: ClassVar = ""

    def __init__(self, parts: SplitResult) -> None:
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.port = parts.port or self.schemes[parts.scheme]
        self.username = None if parts.username is None else unquote(parts.username)
        self.password = None if parts.password is None else unquote(parts.password)
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query))

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if isinstance(value, str):
            url = cls._parsed(value, "")
            if url.password is not None or any(map(_PASSWORD.search, url.query)):
                raise ValueError(_ADVICE)
            return url
        if isinstance(value, dict):
            secret = Secret.from_config(value, directory)
            return cls._parsed(secret.text().strip(), f" in {secret.source}")
        raise ValueError(f'expected a URL such as "{cls.example}"')

    @classmethod
    def _parsed(cls, text: str, where: str) -> Self:
        try:
            parts = urlsplit(text)
            if parts.scheme in cls.schemes and parts.hostname and not parts.fragment:
                return cls(parts)
        except ValueError:
            pass
        raise ValueError(f'expected a URL{where} such as "{cls.example}"') from None

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<{self.scheme} URL>"


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `tls`. Where it stands, the connection is encrypted, and the server's name and certificate checked."""

    ca: Annotated[
        Path | None,
        msgspec.Meta(
            description="The authority that signed the server's certificate (PEM); default: those of the system."
        ),
    ] = None
    certificate: Annotated[Path | None, msgspec.Meta(description="A client certificate (PEM).")] = None
    key: Annotated[Path | None, msgspec.Meta(description="The key of the client certificate (PEM).")] = None

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ValueError("key: needs a certificate")

    def context(self) -> ssl.SSLContext:
        """`ValueError` with a sentence where the files cannot be used."""
        try:
            return client_context(self.ca, self.certificate, self.key)
        except ValueError as error:
            raise ValueError(f"tls: {error}") from None
