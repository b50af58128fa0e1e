"""The gateway under test for tests without an event loop: it runs in a thread, and each call waits for its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.selector import Selector
from gateway.simulate import HttpAnswer
from gateway.testing.factories import CUSTOMER, ORGANISATION
from gateway.testing.in_process import GatewayUnderTest, JournalKind, running_gateway
from gateway.testing.looks import DeadLetter
from gateway.testing.waiting import PATIENCE, until_true

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway under test", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        async def called() -> T:
            return function(*args)

        return self.run(called())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingWebio:
    """`Webio`, each call of which waits for the answer."""

    def __init__(self, loop: _Loop, gateway: GatewayUnderTest) -> None:
        self._loop = loop
        self._gateway = gateway

    def post(
        self, body: bytes | Mapping[str, Any], hook: str | None = None, *, organisation: str = ORGANISATION
    ) -> HttpAnswer:
        """See `Webio.post`."""
        return self._loop.run(self._gateway.webio.post(body, hook, organisation=organisation))

    def send(self, hook: str = "payment", *, organisation: str = ORGANISATION, **fields: Any) -> str:
        """See `Webio.send`."""
        return self._loop.run(self._gateway.webio.send(hook, organisation=organisation, **fields))

    def send_all(self, **fields: Any) -> dict[str, str]:
        """See `Webio.send_all`."""
        return self._loop.run(self._gateway.webio.send_all(**fields))

    def send_twice(self, hook: str = "payment", **fields: Any) -> str:
        """See `Webio.send_twice`."""
        return self._loop.run(self._gateway.webio.send_twice(hook, **fields))

    def send_burst(
        self, count: int, hook: str = "payment", *, at_once: int = 32, conversations: int | None = None
    ) -> list[str]:
        """See `Webio.send_burst`."""
        burst = self._gateway.webio.send_burst(count, hook, at_once=at_once, conversations=conversations)
        return self._loop.run(burst)

    def send_broken(self) -> dict[str, HttpAnswer]:
        """See `Webio.send_broken`."""
        return self._loop.run(self._gateway.webio.send_broken())

    def ask(
        self,
        *fields: str,
        customer_uid: str | None = CUSTOMER,
        address: str | None = None,
        organisation: str = ORGANISATION,
    ) -> HttpAnswer:
        """See `Webio.ask`."""
        question = self._gateway.webio.ask(
            *fields, customer_uid=customer_uid, address=address, organisation=organisation
        )
        return self._loop.run(question)

    def values(self, *fields: str, **who: Any) -> dict[str, str]:
        """See `Webio.values`."""
        return self._loop.run(self._gateway.webio.values(*fields, **who))


class BlockingGateway:
    """`GatewayUnderTest`, each call of which waits for its end."""

    def __init__(self, loop: _Loop, gateway: GatewayUnderTest) -> None:
        self._loop = loop
        self._gateway = gateway
        self.directory: Path = gateway.directory
        self.webio = BlockingWebio(loop, gateway)

    @property
    def url(self) -> str:
        return self._gateway.url

    def plugin(self, name: str) -> Any:
        """See `GatewayUnderTest.plugin`."""
        return self._gateway.plugin(name)

    def states(self, plugin: str) -> dict[str, str]:
        """See `GatewayUnderTest.states`."""
        return self._loop.call(self._gateway.states, plugin)

    def dead_letters(self, plugin: str | None = None) -> list[DeadLetter]:
        """See `GatewayUnderTest.dead_letters`."""
        return self._loop.call(self._gateway.dead_letters, plugin)

    def health(self, plugin: str) -> dict[str, Any]:
        """See `GatewayUnderTest.health`."""
        return self._loop.call(self._gateway.health, plugin)

    def metrics(self) -> dict[str, float]:
        """See `GatewayUnderTest.metrics`."""
        return self._loop.call(self._gateway.metrics)

    def until(self, condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE) -> None:
        """Wait until `condition()` is true. It is called in this thread."""
        until_true(condition, what, seconds=seconds)

    def until_settled(self, *plugins: str, seconds: float = PATIENCE) -> None:
        """See `GatewayUnderTest.until_settled`."""
        self._loop.run(self._gateway.until_settled(*plugins, seconds=seconds))

    def until_delivered(self, *plugins: str, seconds: float = PATIENCE) -> None:
        """See `GatewayUnderTest.until_delivered`."""
        self._loop.run(self._gateway.until_delivered(*plugins, seconds=seconds))

    def replay(self, plugin: str, *event_ids: str) -> None:
        """See `GatewayUnderTest.replay`."""
        self._loop.run(self._gateway.replay(plugin, *event_ids))

    def retry_dead(self, plugin: str | None = None) -> int:
        """See `GatewayUnderTest.retry_dead`."""
        return self._loop.run(self._gateway.retry_dead(plugin))

    def forget(self, selector: Selector) -> dict[str, int | str]:
        """See `GatewayUnderTest.forget`."""
        return self._loop.run(self._gateway.forget(selector))

    def hold_checkpoints(self, plugin: str) -> None:
        """See `GatewayUnderTest.hold_checkpoints`."""
        self._loop.call(self._gateway.hold_checkpoints, plugin)

    def hold_settlements(self, plugin: str) -> None:
        """See `GatewayUnderTest.hold_settlements`."""
        self._loop.call(self._gateway.hold_settlements, plugin)

    def release_checkpoints(self, plugin: str) -> None:
        """See `GatewayUnderTest.release_checkpoints`."""
        self._loop.call(self._gateway.release_checkpoints, plugin)

    def until_held(self, plugin: str, events: int = 1, *, seconds: float = PATIENCE) -> None:
        """See `GatewayUnderTest.until_held`."""
        self._loop.run(self._gateway.until_held(plugin, events, seconds=seconds))

    def crash(self) -> None:
        """See `GatewayUnderTest.crash`."""
        self._loop.run(self._gateway.crash())

    def restart(self) -> None:
        """See `GatewayUnderTest.restart`."""
        self._loop.run(self._gateway.restart())


@contextmanager
def blocking_gateway(
    config: str | Mapping[str, Any] = "",
    plugins: Mapping[str, Any] | None = None,
    *,
    directory: Path | None = None,
    journal: JournalKind = "memory",
    listen: bool = False,
) -> Iterator[BlockingGateway]:
    """`running_gateway` for a test that is a plain `def`; the same arguments."""
    loop = _Loop()
    try:
        running = running_gateway(config, plugins, directory=directory, journal=journal, listen=listen)
        gateway = loop.run(running.__aenter__())
        try:
            yield BlockingGateway(loop, gateway)
        finally:
            loop.run(running.__aexit__(None, None, None))
    finally:
        loop.close()
