"""The settings and the plugin."""

from __future__ import annotations

import re
from pathlib import Path
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


class NatsUrl(ServerUrl):
    """`nats://` or, encrypted, `tls://`."""

    schemes: ClassVar[dict[str, int]] = {"nats": 4222, "tls": 4222}
    example: ClassVar = "nats://nats.internal:4222"


class Subject(Template):
    """A subject without wildcards."""

    allowed: ClassVar[re.Pattern[str]] = re.compile(
        r"[^\x00-\x20\x7f.*>$][^\x00-\x20\x7f.*>]*(\.[^\x00-\x20\x7f.*>]+)*"
    )

    @property
    def wildcard(self) -> str:
        """The subjects of all events."""
        return ".".join("*" if "{" in word else word for word in str(self).split("."))


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    servers: Annotated[
        tuple[NatsUrl, ...],
        msgspec.Meta(description="The servers of a cluster, each without a password, or a secret with the whole URL."),
    ]
    stream: Annotated[
        str, msgspec.Meta(pattern=r"^[^\s.*>/\\]{1,200}$", description="The stream that stores the events.")
    ] = "WEBIO"
    subject: Annotated[
        Subject, msgspec.Meta(description="The subject of an event; {organisation} and {hook} are replaced.")
    ] = Subject("webio.{organisation}.{hook}")
    create: Annotated[bool, msgspec.Meta(description="Whether the stream is made where it does not exist.")] = True
    replicas: Annotated[
        int, msgspec.Meta(ge=1, le=5, description="How many servers of the cluster store a stream that is made.")
    ] = 1
    username: Annotated[str | None, msgspec.Meta(description="The user name; default: that of the URL.")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password.")] = None
    token: Annotated[Secret | None, msgspec.Meta(description="A token, instead of a user name and a password.")] = None
    credentials: Annotated[
        Path | None, msgspec.Meta(description="A .creds file with a JWT and an NKey seed, instead of a password.")
    ] = None
    tls: Annotated[
        Tls | None, msgspec.Meta(description="An encrypted connection, and its certificates; also with tls://.")
    ] = None
    confirm_timeout: ConfirmTimeout = LONGEST_WAIT
    in_flight: InFlightLimit = MOST_IN_FLIGHT

    def __post_init__(self) -> None:
        require("nats", "webio-gateway[nats]")
        if not self.servers:
            raise ValueError(f'servers: expected at least one, such as "{NatsUrl.example}"')
        ways = [name for name in ("password", "token", "credentials") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"{ways[1]}: cannot be used with {ways[0]}")


class NatsPlugin(BrokerPlugin):
    """Publishes every event to JetStream."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        from gateway_nats.connection import NatsConnection  # where the extra is not installed, the settings still are

        super().__init__(lambda: NatsConnection(config), config.confirm_timeout, config.in_flight)
