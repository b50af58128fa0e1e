"""The settings and the plugin."""

from __future__ import annotations

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


class AmqpUrl(ServerUrl):
    """`amqp://` or, encrypted, `amqps://`; the path is the virtual host."""

    schemes: ClassVar[dict[str, int]] = {"amqp": 5672, "amqps": 5671}
    example: ClassVar = "amqp://gateway@rabbitmq.internal/webio"

    @property
    def virtual_host(self) -> str:
        return self.path.removeprefix("/") or "/"


class RoutingKey(Template):
    """A routing key."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[
        AmqpUrl,
        msgspec.Meta(
            description="The server and the virtual host, without a password, or a secret with the whole URL."
        ),
    ]
    exchange: Annotated[
        str,
        msgspec.Meta(
            max_length=200, description="The exchange; with an empty text, the routing key is the name of a queue."
        ),
    ] = "webio"
    routing_key: Annotated[
        RoutingKey, msgspec.Meta(description="The routing key of an event; {organisation} and {hook} are replaced.")
    ] = RoutingKey("webio.{organisation}.{hook}")
    create: Annotated[
        bool, msgspec.Meta(description="Whether the exchange is made where it does not exist: topic, durable.")
    ] = True
    username: Annotated[str | None, msgspec.Meta(description="The user name; default: that of the URL.")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password.")] = None
    tls: Annotated[
        Tls | None, msgspec.Meta(description="An encrypted connection, and its certificates; also with amqps://.")
    ] = None
    confirm_timeout: ConfirmTimeout = LONGEST_WAIT
    in_flight: InFlightLimit = MOST_IN_FLIGHT

    def __post_init__(self) -> None:
        require("aio_pika", "webio-gateway[amqp]")


class AmqpPlugin(BrokerPlugin):
    """Publishes every event to an exchange."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        from gateway_amqp.connection import AmqpConnection  # where the extra is not installed, the settings still are

        super().__init__(lambda: AmqpConnection(config), config.confirm_timeout, config.in_flight)
