"""One connection to an MQTT server, with its acknowledgement (PUBACK) of each event."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import aiomqtt
from gateway_brokers import BrokerFailed, cause_of
from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway import Event

if TYPE_CHECKING:
    from gateway_mqtt.plugin import Settings

_VERSIONS: Final = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}
_QUIET: Final = "webio-gateway.mqtt"
"""The logger of the client, which tells what is also raised."""


class _Client(aiomqtt.Client):
    """A client that tells how the server answered: `aiomqtt` takes a refusal for an acknowledgement."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers: dict[int, asyncio.Future[None]] = {}

    def begin(self, topic: str, payload: bytes) -> tuple[int, asyncio.Future[None]]:
        """Send a message; its number and a future of the answer. `MqttError`, `ValueError` for one that is too long."""
        info = self._client.publish(topic, payload, qos=1)
        if info.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "the message was not sent")
        future = self.answers[info.mid] = asyncio.get_running_loop().create_future()
        return info.mid, future

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        future = self.answers.get(mid)
        if future is None or future.done():
            return
        if reason_code.is_failure:
            future.set_exception(BrokerFailed(f"the server refused the event: {reason_code.getName()}"))
        else:
            future.set_result(None)


class MqttConnection:
    def __init__(self, config: Settings) -> None:
        self._config = config
        self._client: _Client | None = None
        self._watch: asyncio.Task[None] | None = None
        logging.getLogger(_QUIET).setLevel(logging.CRITICAL)

    @property
    def lost(self) -> bool:
        return self._watch is None or self._watch.done()

    async def open(self) -> None:
        config = self._config
        client = _Client(
            config.host,
            config.server_port,
            username=config.username,
            password=None if config.password is None else config.password.text(),
            identifier=config.client_id,
            protocol=_VERSIONS[config.version],
            tls_context=None if config.tls is None else config.tls.context(),
            timeout=config.confirm_timeout,
            max_inflight_messages=config.in_flight,
            logger=logging.getLogger(_QUIET),
        )
        try:
            await client.__aenter__()
        except (aiomqtt.MqttError, OSError) as error:
            raise self._failed(error) from None
        self._client = client
        self._watch = asyncio.get_running_loop().create_task(self._until_lost(client))

    async def look(self) -> list[str]:
        await self.open()
        if self._config.password is not None and self._config.tls is None:
            return [f"password: {self._config.server} gets it unencrypted; write tls = {{}}"]
        return []

    async def publish(self, event: Event) -> None:
        client = self._client
        if client is None or self.lost:
            raise self._gone()
        try:
            number, answer = client.begin(self._config.topic.of(event), event.record())
        except (aiomqtt.MqttError, OSError) as error:
            raise self._failed(error) from None
        try:
            await answer
        finally:
            client.answers.pop(number, None)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait((self._watch,))
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)

    async def _until_lost(self, client: _Client) -> None:
        """Wait until the connection ends, and fail what is not acknowledged then."""
        try:
            async for _ in client.messages:  # nothing is subscribed to: it ends with the connection
                pass
        except aiomqtt.MqttError:
            pass
        finally:
            for answer in list(client.answers.values()):
                if not answer.done():
                    answer.set_exception(self._gone())

    def _gone(self) -> BrokerFailed:
        return BrokerFailed(f"{self._config.server}: the connection is lost")

    def _failed(self, error: BaseException) -> BrokerFailed:
        told = str(error) if isinstance(error, aiomqtt.MqttError) else cause_of(error)
        return BrokerFailed(f"{self._config.server}: {told}")
