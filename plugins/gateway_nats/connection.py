"""One connection to NATS, with the acknowledgements of JetStream for what it publishes."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec
from gateway_brokers import BrokerFailed, Tls, cause_of
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from gateway import Event, Reject

if TYPE_CHECKING:
    from gateway_nats.plugin import Settings

_PENDING: Final = 64 * 1024 * 1024
"""Bytes that may wait to be written; the events in flight are the bound."""


class _Refusal(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    """What JetStream answers to a message: the stream that stored it, or an error."""

    stream: str = ""
    error: _Refusal | None = None


_ack = msgspec.json.Decoder(_Ack)


class NatsConnection:
    def __init__(self, config: Settings) -> None:
        self._config = config
        self._servers = ", ".join(url.server for url in config.servers)
        self._client = Client()
        self._error: Exception | None = None
        self._acks: dict[str, asyncio.Future[None]] = {}
        self._numbers = count()
        self._inbox = ""

    @property
    def lost(self) -> bool:
        return not self._client.is_connected

    async def open(self) -> None:
        await self._connect()
        stream = await self._stream()
        if stream is None:
            await self._make()
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(
            f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def look(self) -> list[str]:
        config = self._config
        await self._connect()
        stream = await self._stream()
        if stream is None:
            if not config.create:
                raise BrokerFailed(f"stream: {config.stream} does not exist; make it, or write create = true")
            return []
        warnings = []
        wanted = config.subject.wildcard
        subjects = stream.config.subjects or []
        if not any(_covers(one, wanted) for one in subjects):
            taken = ", ".join(subjects) or "nothing"
            raise BrokerFailed(f"subject: the stream {config.stream} takes {taken}, expected {wanted} among them")
        if str(stream.config.storage).lower().endswith("memory"):
            warnings.append(f"stream: {config.stream} is in the server's memory: a restart loses its events")
        return warnings

    async def publish(self, event: Event) -> None:
        if self.lost:
            raise self._gone()
        number = str(next(self._numbers))
        future = self._acks[number] = asyncio.get_running_loop().create_future()
        headers = {"Nats-Msg-Id": event.id, "Nats-Expected-Stream": self._config.stream}
        line = event.record()
        try:
            await self._client.publish(
                self._config.subject.of(event), line, reply=f"{self._inbox}.{number}", headers=headers
            )
            await future
        except MaxPayloadError:
            raise Reject(f"the event has {len(line)} bytes, more than the server takes (max_payload)") from None
        except (NatsError, OSError) as error:
            raise self._failed(error) from None
        finally:
            self._acks.pop(number, None)

    async def close(self) -> None:
        await self._client.close()

    async def _connect(self) -> None:
        config, first = self._config, self._config.servers[0]
        options: dict[str, Any] = {"user": config.username or first.username, "password": first.password}
        if config.password is not None:
            options["password"] = config.password.text()
        if config.token is not None:
            options["token"] = config.token.text()
        if config.credentials is not None:
            options["user_credentials"] = str(config.credentials)
        if config.tls is not None or first.scheme == "tls":
            options["tls"] = (config.tls or Tls()).context()
        try:
            await self._client.connect(
                [f"{url.scheme}://{url.server}" for url in config.servers],
                name="webio-gateway",
                allow_reconnect=False,  # the gateway opens another connection with the next event
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(config.confirm_timeout)),
                pending_size=_PENDING,
                error_cb=self._failing,
                disconnected_cb=self._ended,
                closed_cb=self._ended,
                **options,
            )
        except (NatsError, OSError, ValueError) as error:
            raise self._failed(self._error or error) from None

    async def _stream(self) -> StreamInfo | None:
        """The stream, or None where it does not exist."""
        try:
            return await self._client.jetstream(timeout=self._config.confirm_timeout).stream_info(self._config.stream)
        except NotFoundError:
            return None
        except (NatsError, OSError) as error:
            raise self._failed(error) from None

    async def _make(self) -> None:
        config = self._config
        if not config.create:
            raise BrokerFailed(f"the stream {config.stream} does not exist, and create is false")
        wanted = StreamConfig(name=config.stream, subjects=[config.subject.wildcard], num_replicas=config.replicas)
        try:
            await self._client.jetstream(timeout=config.confirm_timeout).add_stream(wanted)
        except (NatsError, OSError) as error:
            raise BrokerFailed(f"the stream {config.stream} cannot be made: {self._told(error)}") from None

    async def _answered(self, message: Msg) -> None:
        future = self._acks.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            subjects = self._config.subject.wildcard
            future.set_exception(BrokerFailed(f"no stream takes {subjects}; add it to {self._config.stream}"))
            return
        try:
            answer = _ack.decode(message.data)
        except msgspec.MsgspecError:
            future.set_exception(BrokerFailed(f"{self._servers}: the acknowledgement is not JSON"))
            return
        if answer.error is None:
            future.set_result(None)
        else:
            future.set_exception(BrokerFailed(f"the stream {self._config.stream} refused: {answer.error.description}"))

    async def _failing(self, error: Exception) -> None:
        self._error = error

    async def _ended(self) -> None:
        for future in list(self._acks.values()):
            if not future.done():
                future.set_exception(self._gone())

    def _gone(self) -> BrokerFailed:
        return BrokerFailed(f"{self._servers}: the connection is lost")

    def _failed(self, error: BaseException) -> BrokerFailed:
        return BrokerFailed(f"{self._servers}: {self._told(error)}")

    def _told(self, error: BaseException) -> str:
        if isinstance(error, ServiceUnavailableError):
            return "JetStream is not enabled for this account"
        if isinstance(error, APIError) and error.description:
            return error.description
        if "authorization violation" in str(error).lower():
            return "the user name, password or token is wrong"
        return cause_of(error)


def _covers(subject: str, wanted: str) -> bool:
    """Whether all subjects that `wanted` names are among those of `subject`."""
    words, theirs = wanted.split("."), subject.split(".")
    if theirs[-1] == ">" and len(words) >= len(theirs):
        words, theirs = words[: len(theirs) - 1], theirs[:-1]
    return len(words) == len(theirs) and all(their in ("*", word) for their, word in zip(theirs, words, strict=True))
