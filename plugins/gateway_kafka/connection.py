"""A producer for a Kafka cluster. The client itself connects again to the servers that it needs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from gateway_brokers import BrokerFailed, cause_of

from gateway import Event, Reject

if TYPE_CHECKING:
    from gateway_kafka.plugin import Settings

_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a request. What a record may have is the cluster's to say (message.max.bytes)."""
_CLIENTS_SHARE: Final = 0.8
"""Share of the time for a confirmation after which the client itself gives up, so that it does not try on."""


class KafkaConnection:
    def __init__(self, config: Settings) -> None:
        self._config = config
        self._producer: AIOKafkaProducer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._lost = False
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it tells is also raised

    @property
    def lost(self) -> bool:
        return self._lost

    async def open(self) -> None:
        config = self._config
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=config.idempotent,
            max_request_size=_LONGEST,
            **self._options(),
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise self._failed(error) from None

    async def look(self) -> list[str]:
        config = self._config
        self._admin = AIOKafkaAdminClient(**self._options())
        try:
            await self._admin.start()
            topics = set(await self._admin.list_topics())
        except (KafkaError, OSError) as error:
            raise self._failed(error) from None
        topic = str(config.topic)
        if config.topic.varies or topic in topics:
            return []
        return [f"topic: {topic} does not exist; make it, unless the cluster makes topics when they are needed"]

    async def publish(self, event: Event) -> None:
        if self._producer is None:
            raise BrokerFailed("the producer has not started")
        topic, line = self._config.topic.of(event), event.record()
        try:
            confirmed = await self._producer.send(
                topic,
                line,
                key=None if event.conversation_id is None else event.conversation_id.encode(),
                timestamp_ms=int(event.received_at.timestamp() * 1000),
                headers=[("id", event.id.encode()), ("hook", event.hook.encode())],
            )
            await confirmed
        except MessageSizeTooLargeError:
            raise Reject(f"the event has {len(line)} bytes, more than the topic takes (max.message.bytes)") from None
        except UnknownTopicOrPartitionError:
            raise BrokerFailed(f"the topic {topic} does not exist") from None
        except (KafkaTimeoutError, TimeoutError):
            raise BrokerFailed(f"{self._servers}: no confirmation in time") from None
        except (KafkaError, OSError) as error:
            self._lost = not getattr(error, "retriable", True)
            raise self._failed(error) from None

    async def close(self) -> None:
        for client, ending in ((self._admin, "close"), (self._producer, "stop")):
            if client is not None:
                await getattr(client, ending)()

    @property
    def _servers(self) -> str:
        return ", ".join(self._config.servers)

    def _options(self) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "bootstrap_servers": list(config.servers),
            "client_id": "webio-gateway",
            "request_timeout_ms": max(1, int(config.confirm_timeout * 1000 * _CLIENTS_SHARE)),
        }
        layers = {
            (False, False): "PLAINTEXT",
            (False, True): "SASL_PLAINTEXT",
            (True, False): "SSL",
            (True, True): "SASL_SSL",
        }
        options["security_protocol"] = layers[config.tls is not None, config.password is not None]
        if config.tls is not None:
            options["ssl_context"] = config.tls.context()
        if config.password is not None:
            options["sasl_mechanism"] = config.mechanism
            options["sasl_plain_username"] = config.username
            options["sasl_plain_password"] = config.password.text()
        return options

    def _failed(self, error: BaseException) -> BrokerFailed:
        told = cause_of(error)
        if told == "KafkaConnectionError":
            told = "no server of the cluster can be reached"
        return BrokerFailed(f"{self._servers}: {told}")
