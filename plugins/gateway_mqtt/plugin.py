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


class Topic(Template):
    """A topic without wildcards."""

    allowed: ClassVar[re.Pattern[str]] = re.compile(r"[^\x00-\x1f\x7f+#$][^\x00-\x1f\x7f+#]*")
    example: ClassVar = "webio/{organisation}/{hook}"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: Annotated[str, msgspec.Meta(pattern=r"^[^\s/@]+$", description="The server's name or address.")]
    port: Annotated[
        int | None, msgspec.Meta(ge=1, le=65535, description="The server's port; default: 1883, or 8883 with tls.")
    ] = None
    topic: Annotated[
        Topic, msgspec.Meta(description="The topic of an event; {organisation} and {hook} are replaced.")
    ] = Topic("webio/{organisation}/{hook}")
    username: Annotated[str | None, msgspec.Meta(description="The user name.")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password.")] = None
    client_id: Annotated[
        str | None, msgspec.Meta(description="The client's identifier; default: one that the server chooses.")
    ] = None
    version: Annotated[
        Literal["5", "3.1.1"],
        msgspec.Meta(description="The version of MQTT; a server tells only with 5 that it refuses an event."),
    ] = "5"
    tls: Annotated[Tls | None, msgspec.Meta(description="An encrypted connection, and its certificates.")] = None
    confirm_timeout: ConfirmTimeout = LONGEST_WAIT
    in_flight: InFlightLimit = MOST_IN_FLIGHT

    def __post_init__(self) -> None:
        require("aiomqtt", "webio-gateway[mqtt]")
        if self.password is not None and self.username is None:
            raise ValueError("password: needs a username")

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.server_port}"

    @property
    def server_port(self) -> int:
        return self.port or (1883 if self.tls is None else 8883)


class MqttPlugin(BrokerPlugin):
    """Publishes every event to a topic."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        from gateway_mqtt.connection import MqttConnection  # where the extra is not installed, the settings still are

        super().__init__(lambda: MqttConnection(config), config.confirm_timeout, config.in_flight)
