"""The settings and the plugin."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

import msgspec
from gateway_brokers import (
    LONGEST_WAIT,
    MOST_IN_FLIGHT,
    BrokerPlugin,
    ConfirmTimeout,
    InFlightLimit,
    ServerUrl,
    Template,
    Tls,
    require,
)

from gateway import Secret


class RedisUrl(ServerUrl):
    """`redis://` or, encrypted, `rediss://`; the path is the number of the database."""

    schemes: ClassVar[dict[str, int]] = {"redis": 6379, "rediss": 6379}
    example: ClassVar = "redis://gateway@redis.internal:6379/0"

    @property
    def database(self) -> int:
        """`ValueError` where the path is not a number."""
        number = self.path.removeprefix("/") or "0"
        if not re.fullmatch(r"\d{1,5}", number, re.ASCII):
            raise ValueError(f'url: expected the number of a database after the server, such as "{self.example}"')
        return int(number)


class StreamKey(Template):
    """The key of a stream."""

    example: ClassVar = "webio.{organisation}"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[
        RedisUrl, msgspec.Meta(description="The server, without a password, or a secret with the whole URL.")
    ]
    stream: Annotated[
        StreamKey, msgspec.Meta(description="The key of the stream; {organisation} and {hook} are replaced.")
    ] = StreamKey("webio.{organisation}")
    max_length: Annotated[
        int | None,
        msgspec.Meta(ge=1, description="About how many entries a stream keeps, the newest; default: all."),
    ] = None
    min_replicas: Annotated[
        int, msgspec.Meta(ge=0, le=100, description="How many replicas must have an event before it is delivered.")
    ] = 0
    username: Annotated[str | None, msgspec.Meta(description="The user name; default: that of the URL.")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password.")] = None
    tls: Annotated[
        Tls | None, msgspec.Meta(description="An encrypted connection, and its certificates; also with rediss://.")
    ] = None
    confirm_timeout: ConfirmTimeout = LONGEST_WAIT
    in_flight: InFlightLimit = MOST_IN_FLIGHT

    def __post_init__(self) -> None:
        require("redis", "webio-gateway[redis]")
        _ = self.url.database


class RedisPlugin(BrokerPlugin):
    """Adds every event to a stream."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        from gateway_redis.connection import RedisConnection  # where the extra is not installed, the settings still are

        super().__init__(lambda: RedisConnection(config), config.confirm_timeout, config.in_flight)
