"""The hooks of a plugin that sends events to a broker, around one connection."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import ssl
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from gateway import Context, Event, Selector, hookimpl
from gateway_brokers.in_flight import InFlight
from gateway_brokers.settings import LONGEST_WAIT, MOST_IN_FLIGHT

_CLOSING: Final = 5.0
"""Seconds that closing a connection may take."""


class BrokerFailed(Exception):
    """The broker could not be reached, or did not take an event. The message has nothing of an event, and no secret."""

    loggable = True


class Connection(Protocol):
    """One connection to a broker. Once it is lost or closed it is not used again."""

    @property
    def lost(self) -> bool:
        """Whether it cannot be used any more. What was not confirmed then has failed."""

    async def open(self) -> None:
        """Connect, and make what events are sent to where the settings say so. `BrokerFailed`."""

    async def publish(self, event: Event) -> None:
        """Send an event, and return once the broker has confirmed it. `BrokerFailed`, or `Reject` where it can never be
        sent. Called for many events at the same time, and in the order of delivery for those of a conversation."""

    async def look(self) -> Iterable[str]:
        """For `gateway check`, instead of `open`: connect and look, and change nothing. Returns sentences that are only
        warnings. `BrokerFailed`."""

    async def close(self) -> None:
        """Close it, also where `open` or `look` has failed halfway."""


class BrokerPlugin:
    """Sends every event to a broker. A plugin inherits from it, and gives it a function that makes a `Connection`.

    A lost connection is opened again with the next event; while that fails, the events wait in the gateway."""

    def __init__(
        self, connect: Callable[[], Connection], timeout: float = LONGEST_WAIT, in_flight: int = MOST_IN_FLIGHT
    ) -> None:
        """`timeout` is in seconds, for opening a connection and for each confirmation; at most `in_flight` events are
        unconfirmed."""
        self._connect = connect
        self._timeout = timeout
        self._most = in_flight
        self._connection: Connection | None = None
        self._opening: asyncio.Lock
        self._in_flight: InFlight | None = None

    @hookimpl
    async def check(self) -> list[str]:
        connection = self._connect()
        try:
            async with asyncio.timeout(self._timeout):
                return list(await connection.look())
        except TimeoutError:
            raise BrokerFailed(f"the server did not answer within {self._timeout:g} s") from None
        finally:
            await _close(connection)

    @hookimpl
    async def startup(self, context: Context) -> None:
        self._opening = asyncio.Lock()
        self._in_flight = InFlight(self._most, self._timeout)
        await self._open()

    @hookimpl
    async def shutdown(self) -> None:
        if self._in_flight is not None:
            self._in_flight.close()
        await self._drop()

    @hookimpl
    async def on_event(self, event: Event) -> None:
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._open()
        await self._confirmed(self._started().send(event, connection.publish), connection)

    @hookimpl
    async def checkpoint(self) -> None:
        await self._confirmed(self._started().confirm(), self._connection)

    @hookimpl
    async def forget(self, selector: Selector) -> str:
        self._started().forget_failures()  # they may be of events that do not come again
        return "events that were sent to the broker cannot be called back; erase them there, and where they are read"

    def _started(self) -> InFlight:
        if self._in_flight is None:
            raise BrokerFailed("the plugin has not started")
        return self._in_flight

    async def _confirmed(self, work: Coroutine[Any, Any, None], connection: Connection | None) -> None:
        """Do it; a connection on which a confirmation does not come in time is given up."""
        try:
            await work
        except TimeoutError:
            if connection is not None and connection is self._connection:
                await self._drop()
            raise BrokerFailed(f"the server did not confirm an event within {self._timeout:g} s") from None

    async def _open(self) -> Connection:
        """A connection that is not lost. Several events may ask for it at the same time."""
        self._started()
        async with self._opening:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            await self._drop()
            connection = self._connect()
            try:
                async with asyncio.timeout(self._timeout):
                    await connection.open()
            except TimeoutError:
                await _close(connection)
                raise BrokerFailed(f"the server did not answer within {self._timeout:g} s") from None
            except BaseException:
                await _close(connection)
                raise
            self._connection = connection
            return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)


async def _close(connection: Connection) -> None:
    with contextlib.suppress(Exception):  # a broken connection is gone either way
        async with asyncio.timeout(_CLOSING):
            await connection.close()


def require(package: str, install: str) -> None:
    """`ValueError` with a sentence where a package is not installed; `install` is what `pip install` takes."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"the package {package} is not installed; pip install '{install}'")


def cause_of(error: BaseException) -> str:
    """An error of a connection in words, without its message, which may have a secret or an event in it."""
    if isinstance(error, BrokerFailed):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS connection failed: {error.reason}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    inner = error.__cause__ or error.__context__
    if isinstance(inner, OSError) and inner.errno is not None:
        return cause_of(inner)
    return type(error).__name__
