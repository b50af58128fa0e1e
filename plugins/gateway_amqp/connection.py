"""One connection to RabbitMQ, with publisher confirms."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, AuthenticationError, ChannelNotFoundEntity, DeliveryError, PublishError
from gateway_brokers import BrokerFailed, Tls, cause_of

from gateway import Event

if TYPE_CHECKING:
    from gateway_amqp.plugin import Settings

_QUIET: Final = ("aio_pika", "aiormq")
"""Loggers that would log messages, which are customers' data. Whatever they tell is also raised."""
_FAILURES: Final = (AMQPError, OSError, RuntimeError)
"""What the client raises; `RuntimeError` where a connection is closing."""


class AmqpConnection:
    def __init__(self, config: Settings) -> None:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._config = config
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None

    @property
    def lost(self) -> bool:
        connection, channel = self._connection, self._channel
        return connection is None or connection.is_closed or channel is None or channel.is_closed

    async def open(self) -> None:
        connection = await self._connect()
        config = self._config
        try:
            if config.exchange and not await self._exists(connection):
                if not config.create:
                    raise BrokerFailed(f"the exchange {config.exchange} does not exist, and create is false")
                channel = await connection.channel()
                await channel.declare_exchange(config.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
                await channel.close()
            self._channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            self._exchange = self._channel.default_exchange
            if config.exchange:
                self._exchange = await self._channel.get_exchange(config.exchange, ensure=False)
        except _FAILURES as error:
            raise self._failed(error) from None

    async def look(self) -> list[str]:
        connection = await self._connect()
        config = self._config
        try:
            exists = not config.exchange or await self._exists(connection)
        except _FAILURES as error:
            raise self._failed(error) from None
        if exists:
            return []
        if not config.create:
            raise BrokerFailed(f"exchange: {config.exchange} does not exist; make it, or write create = true")
        return [f"exchange: {config.exchange} is made at the start; bind a queue to it, or its events wait here"]

    async def publish(self, event: Event) -> None:
        if self._exchange is None or self.lost:
            raise BrokerFailed(f"{self._config.url.server}: the connection is lost")
        message = aio_pika.Message(
            event.record(),
            message_id=event.id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type="application/json",
            app_id="webio-gateway",
            type=event.hook,
            timestamp=event.received_at,
        )
        key = self._config.routing_key.of(event)
        try:
            await self._exchange.publish(message, key, mandatory=True)
        except PublishError:
            place = f"bound to the exchange {self._config.exchange} with" if self._config.exchange else "named as"
            raise BrokerFailed(f"no queue is {place} the routing key {key}") from None
        except DeliveryError:
            raise BrokerFailed(f"{self._config.url.server}: the server did not take the event (nack)") from None
        except _FAILURES as error:
            raise self._failed(error) from None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> AbstractConnection:
        config, url = self._config, self._config.url
        options: dict[str, Any] = {"ssl": config.tls is not None or url.scheme == "amqps"}
        if options["ssl"]:
            options["ssl_context"] = (config.tls or Tls()).context()
        password = url.password if config.password is None else config.password.text()
        try:
            self._connection = await aio_pika.connect(
                host=url.host,
                port=url.port,
                login=config.username or url.username or "guest",
                password="guest" if password is None else password,
                virtualhost=url.virtual_host,
                client_properties={"connection_name": "webio-gateway"},
                timeout=config.confirm_timeout,
                **options,
            )
        except _FAILURES as error:
            raise self._failed(error) from None
        return self._connection

    async def _exists(self, connection: AbstractConnection) -> bool:
        """Whether the exchange exists. The server closes the channel that asks for one that does not."""
        channel = await connection.channel()
        try:
            await channel.get_exchange(self._config.exchange, ensure=True)
        except ChannelNotFoundEntity:
            return False
        await channel.close()
        return True

    def _failed(self, error: BaseException) -> BrokerFailed:
        told = "the user name or password is wrong" if isinstance(error, AuthenticationError) else cause_of(error)
        return BrokerFailed(f"{self._config.url.server}: {told}")
