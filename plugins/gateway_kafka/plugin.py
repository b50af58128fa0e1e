"""The settings and the plugin."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

import msgspec
from gateway_brokers import (
    LONGEST_WAIT,
    MOST_IN_FLIGHT,
    BrokerPlugin,
    ConfirmTimeout,
    InFlightLimit,
    Template,
    Tls,
    require,
)

from gateway import Secret

_SERVER = r"^(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]]+):[0-9]{1,5}$"


class KafkaTopic(Template):
    """The name of a topic."""

    allowed: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9._-]+")
    example: ClassVar = "webio.{organisation}"
    longest: ClassVar = 120


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    servers: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=_SERVER)], ...],
        msgspec.Meta(description="Some servers of the cluster, such as kafka.internal:9092."),
    ]
    topic: Annotated[
        KafkaTopic, msgspec.Meta(description="The topic of an event; {organisation} and {hook} are replaced.")
    ] = KafkaTopic("webio.{organisation}")
    idempotent: Annotated[
        bool,
        msgspec.Meta(description="Whether the cluster itself drops what the client repeats over a lost connection."),
    ] = True
    username: Annotated[str | None, msgspec.Meta(description="The user name (SASL).")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password (SASL).")] = None
    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], msgspec.Meta(description="How the password is checked.")
    ] = "SCRAM-SHA-512"
    tls: Annotated[Tls | None, msgspec.Meta(description="An encrypted connection, and its certificates.")] = None
    confirm_timeout: ConfirmTimeout = LONGEST_WAIT
    in_flight: InFlightLimit = MOST_IN_FLIGHT

    def __post_init__(self) -> None:
        require("aiokafka", "webio-gateway[kafka]")
        if not self.servers:
            raise ValueError('servers: expected at least one, such as "kafka.internal:9092"')
        if (self.username is None) != (self.password is None):
            raise ValueError("password: needs a username" if self.username is None else "username: needs a password")


class KafkaPlugin(BrokerPlugin):
    """Produces every event to a topic."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        from gateway_kafka.connection import KafkaConnection  # where the extra is not installed, the settings still are

        super().__init__(lambda: KafkaConnection(config), config.confirm_timeout, config.in_flight)
