"""One connection to Redis: events that come at the same time share a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from gateway_brokers import BrokerFailed, Tls, cause_of
from redis.asyncio import Redis
from redis.asyncio.connection import Connection as PlainConnection
from redis.asyncio.connection import ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway import Event

if TYPE_CHECKING:
    from gateway_redis.plugin import Settings

_TOGETHER: Final = 500
"""Events in one pipeline, at most."""
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]+")
"""The code that an error of Redis begins with, such as OOM; what follows may quote a command's arguments."""

Entry = tuple[str, str, bytes]
"""The key of a stream, an event's id, and its line."""


class RedisConnection:
    def __init__(self, config: Settings) -> None:
        self._config = config
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._client = _client(config)
        self._trim: dict[str, Any] = {}
        if config.max_length is not None:
            self._trim = {"maxlen": config.max_length, "approximate": True}

    @property
    def lost(self) -> bool:
        return self._writer is None or self._writer.done()

    async def open(self) -> None:
        await self._run(self._client.ping())
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def look(self) -> list[str]:
        config = self._config
        await self._run(self._client.ping())
        if not config.stream.varies:
            kind = await self._run(self._client.type(str(config.stream)))
            if kind not in (b"none", b"stream"):
                raise BrokerFailed(f"stream: the key {config.stream} exists and is not a stream")
        server: dict[str, Any] = await self._run(self._client.info())
        warnings = []
        if server.get("role") == "slave":
            raise BrokerFailed(f"url: {config.url.server} is a replica, which takes no events; name its master")
        connected = server.get("connected_slaves", 0)
        if connected < config.min_replicas:
            warnings.append(f"min_replicas: {config.min_replicas} must confirm, but {connected} are connected")
        if not server.get("aof_enabled") and not config.min_replicas:
            warnings.append(
                "url: the server does not write each event to its disk (appendonly no): it may lose events in a crash"
            )
        if str(server.get("maxmemory_policy", "noeviction")).startswith("allkeys") and server.get("maxmemory"):
            warnings.append(f"url: the server may evict streams when its memory is full ({server['maxmemory_policy']})")
        return warnings

    async def publish(self, event: Event) -> None:
        if self.lost:
            raise BrokerFailed(f"the connection to {self._config.url.server} is lost")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((self._config.stream.of(event), event.id, event.record()), future))
        self._wake.set()
        await future

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        await self._client.aclose(close_connection_pool=True)

    async def _write(self) -> None:
        """Send what waits, and give each event its answer, until the connection fails."""
        batch: list[tuple[Entry, asyncio.Future[None]]] = []
        failure = BrokerFailed(f"the connection to {self._config.url.server} was closed")
        try:
            while True:
                await self._wake.wait()
                batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                if not self._waiting:
                    self._wake.clear()
                answers = await self._run(self._send([entry for entry, _ in batch]))
                for (_, future), answer in zip(batch, answers, strict=True):
                    _answer(future, answer)
        except BrokerFailed as error:
            failure = error
        finally:
            for _, future in (*batch, *self._waiting):
                _answer(future, failure)

    async def _send(self, entries: list[Entry]) -> list[Exception | None]:
        """What the server answered to each entry: None where it was added, and is on as many replicas as it must be."""
        replicas = self._config.min_replicas
        pipeline = self._client.pipeline(transaction=False)
        for key, id, line in entries:
            pipeline.xadd(key, {"id": id, "event": line}, **self._trim)
        if replicas:
            pipeline.execute_command("WAIT", replicas, max(1, int(self._config.confirm_timeout * 1000) // 2))
        results = await pipeline.execute(raise_on_error=False)
        short = None
        if replicas and (isinstance(have := results.pop(), Exception) or have < replicas):
            told = self._told(have) if isinstance(have, Exception) else f"{have} of {replicas} replicas have it"
            short = BrokerFailed(f"{self._config.url.server}: {told}")
        return [self._failed(result) if isinstance(result, Exception) else short for result in results]

    async def _run(self, command: Any) -> Any:
        """The result of a command; `BrokerFailed` where the connection fails, or the server takes too long."""
        try:
            async with asyncio.timeout(self._config.confirm_timeout):
                return await command
        except (RedisError, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> BrokerFailed:
        return BrokerFailed(f"{self._config.url.server}: {self._told(error)}")

    def _told(self, error: Exception) -> str:
        code = _CODE.match(str(error)) if isinstance(error, ResponseError) else None
        if code is not None:
            return f"the server refused with {code[0]}"
        return cause_of(error)


def _client(config: Settings) -> Redis:
    url = config.url
    options: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "db": url.database,
        "username": config.username or url.username,
        "password": url.password if config.password is None else config.password.text(),
        "socket_timeout": None,  # each use of the client is under a timeout of its own
        "socket_connect_timeout": config.confirm_timeout,
        "retry": Retry(NoBackoff(), 0),  # the gateway repeats what was not confirmed, and remembers what was
        "client_name": "webio-gateway",
    }
    if config.tls is None and url.scheme == "redis":
        return Redis(connection_pool=ConnectionPool(PlainConnection, max_connections=1, **options))
    tls = config.tls or Tls()
    tls.context()  # its sentence is better than the client's
    files = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    options |= {name: str(path) for name, path in files.items() if path is not None}
    return Redis(connection_pool=ConnectionPool(SSLConnection, max_connections=1, **options))


def _answer(future: asyncio.Future[None], answer: Exception | None) -> None:
    if future.done():
        return
    if answer is None:
        future.set_result(None)
    else:
        future.set_exception(answer)
