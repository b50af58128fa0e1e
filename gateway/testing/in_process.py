"""A gateway in the test's own process: the real receiver, journal, delivery and custom values, with the test's plugins.
The server's application is imported only once a gateway starts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal import open_journal
from gateway.journal.interface import Filter, Journal, JournalFailed
from gateway.journal.memory import MemoryJournal
from gateway.journal.memory_store import Store
from gateway.plugin_host.load import Plugin
from gateway.selector import Selector
from gateway.testing.holding import Hold
from gateway.testing.http_client import reach
from gateway.testing.looks import DeadLetter, dead_letters_of, states_of
from gateway.testing.settings import testing_config, testing_plugins
from gateway.testing.waiting import PATIENCE, until
from gateway.testing.webio import Webio

if TYPE_CHECKING:
    from gateway.service import Gateway
    from gateway.serving.listener import Listener

T = TypeVar("T")
JournalKind = Literal["memory", "disk"]


class GatewayUnderTest:
    """A gateway that runs in this process; `running_gateway` makes one. `directory` is the folder of its config file,
    and `webio` sends it requests."""

    webio: Webio
    url: str
    """The callback URL; only with `listen=True` it can be reached from outside."""

    def __init__(
        self,
        config: Config,
        given: Mapping[str, Any],
        journal: JournalKind,
        listen: bool,
        prepare: Callable[[Plugin], None] = lambda plugin: None,
    ) -> None:
        self.directory = config.directory
        self._config = config
        self._given = given
        self._store = Store() if journal == "memory" else None
        self._listen = listen
        self._prepare = prepare
        self._failures: list[JournalFailed] = []
        self._running: tuple[Gateway, list[Plugin], dict[str, Hold], httpx.AsyncClient, Listener | None] | None = None

    # What came of it

    def plugin(self, name: str) -> Any:
        """The instance of a plugin that runs now: another one after `crash` and `restart`."""
        return self._plugin(name).instance

    def states(self, plugin: str) -> dict[str, str]:
        """How far a plugin is with each event that it takes, by the event's id, oldest first: `delivered`, `waiting`,
        `retrying` or `dead`."""
        found = states_of(self._gateway.journal, self._config)
        return {event_id: states[plugin] for event_id, states in found.items() if plugin in states}

    def dead_letters(self, plugin: str | None = None) -> list[DeadLetter]:
        """The dead letters of one plugin, or of all."""
        return dead_letters_of(self._gateway.journal, self._config, plugin)

    def health(self, plugin: str) -> dict[str, Any]:
        """What the health page tells of a plugin: `healthy`, `error`, `parked` and so on."""
        found = self._gateway.monitor.plugins_health()
        return next((one for one in found if one["name"] == plugin), {"name": plugin, "healthy": True, "error": None})

    def failures(self, plugin: str) -> int:
        """How many calls of a plugin with events, and of its checkpoint, failed since the last start."""
        return int(self._consumer(plugin).health.failures)

    def idle(self, plugin: str) -> bool:
        """Whether a plugin has taken all there is, and that is settled; dead letters are."""
        return bool(self._consumer(plugin).idle)

    def metrics(self) -> dict[str, float]:
        """The page of metrics: each value by its name with labels."""
        lines = self.metrics_page().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def metrics_page(self) -> str:
        """The page of metrics as it is, in Prometheus' text format."""
        return self._gateway.metrics_page().decode()

    # Waiting

    async def until(self, condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE) -> None:
        """Wait until `condition()` is true; see `until`."""
        await until(condition, what, seconds=seconds)

    async def until_settled(self, *plugins: str, seconds: float = PATIENCE) -> None:
        """Wait until these plugins (default: all) have taken all there is, or it became dead letters."""
        names = plugins or tuple(self._gateway.delivery.consumers)
        try:
            await until(lambda: all(self._consumer(name).idle for name in names), seconds=seconds)
        except AssertionError:
            behind = [self._told(name) for name in names if not self._consumer(name).idle]
            raise AssertionError(f"not delivered within {seconds:g} s: {'; '.join(behind)}") from None

    async def until_delivered(self, *plugins: str, seconds: float = PATIENCE) -> None:
        """Wait until these plugins (default: all) have taken every event. `AssertionError` where one became a dead
        letter."""
        await self.until_settled(*plugins, seconds=seconds)
        dead = [letter for letter in self.dead_letters() if not plugins or letter.plugin in plugins]
        if dead:
            told = "; ".join(f"{one.event_id} of plugin {one.plugin}: {one.error}" for one in dead[:3])
            raise AssertionError(f"{len(dead)} of the events became dead letters: {told}")

    # What an operator does

    async def replay(self, plugin: str, *event_ids: str) -> None:
        """Deliver events again to a plugin (default: every event), as `gateway replay` does; they are
        `event.replayed`."""
        operations = self._gateway.operations
        operation = await operations.start("replay", Filter(plugin=plugin, ids=event_ids))
        while operation.state == "running":  # `idle` may still be true before the replay is taken up
            await self.until_settled(plugin)
            operation = await operations.ended(operation.number)

    async def retry_dead(self, plugin: str | None = None) -> int:
        """Deliver dead letters again, as `gateway dead retry` does; returns how many those are."""
        operations = self._gateway.operations
        operation = await operations.start("retry", Filter(plugin=plugin))
        return (await operations.ended(operation.number)).done

    async def forget(self, selector: Selector) -> dict[str, int | str]:
        """Erase a customer, an address or a conversation everywhere, as `gateway forget` does. Returns what each plugin
        with the hook returned: how many records it erased, or a sentence; `AssertionError` where one failed."""
        which = Filter(
            organisation=selector.organisation,
            customer=selector.customer_uid,
            address=selector.address,
            conversation=selector.conversation_id,
        )
        operations = self._gateway.operations
        operation = await operations.ended((await operations.start("forget", which)).number)
        if operation.answers.failed or operation.error:
            raise AssertionError(f"not forgotten: {operation.answers.failed or operation.error}")
        return {**operation.answers.erased, **operation.answers.passed_on}

    # Stopping and crashing

    def hold_checkpoints(self, plugin: str) -> None:
        """From now on the plugin gets events, but what it took is neither checkpointed nor settled, until
        `release_checkpoints` or `crash`."""
        self._hold(plugin).close()

    def hold_settlements(self, plugin: str) -> None:
        """From now on what the plugin took is checkpointed, but not settled."""
        self._hold(plugin).close(settlements=True)

    def release_checkpoints(self, plugin: str) -> None:
        """Hold nothing any more."""
        self._hold(plugin).open()

    async def until_held(self, plugin: str, events: int = 1, *, seconds: float = PATIENCE) -> None:
        """Wait until the plugin has taken so many `events` since the last start, and the checkpoint of some is held."""
        health, hold = self._consumer(plugin).health, self._hold(plugin)
        what = f"plugin {plugin} has taken {events} events, and their checkpoint is due"
        await until(lambda: hold.reached and health.delivered >= events, what, seconds=seconds)

    async def crash(self) -> None:
        """End as a killed process does, and start again on the same journal: what was not settled comes again, as
        `event.redelivered`. A plugin that is given as a class has a new instance. (Its `shutdown` is called, because
        only the death of a process could free what it holds.)"""
        gateway, *_ = self._started
        if isinstance(gateway.journal, MemoryJournal):
            gateway.journal.abandon()
        await self._end(gateway.abandon)
        await self.start()

    async def restart(self) -> None:
        """Stop cleanly, and start again on the same journal."""
        await self.stop()
        await self.start()

    async def start(self) -> None:
        """Start, and wait until every plugin has started."""
        from gateway.http.app import create_app
        from gateway.service import Gateway

        plugins = testing_plugins(self._config, self._given)
        for plugin in plugins:
            self._prepare(plugin)
        store, config = self._store, self._config
        journal: Journal = open_journal(config) if store is None else MemoryJournal(config, store=store)
        holds = {plugin.name: Hold(plugin, journal) for plugin in plugins}
        gateway = Gateway(config, plugins, journal=journal)
        await gateway.start(self._failures.append)
        http, listener = await reach(create_app(gateway), gateway, self._listen)
        base, path = str(http.base_url).rstrip("/"), config.server.path
        self.url = f"{base}{path}"
        tokens = {name: simulate.token(settings) for name, settings in config.organisations.items()}
        self.webio = Webio(http, path, tokens)
        self._running = gateway, plugins, holds, http, listener
        try:
            for plugin in plugins:
                await until(plugin.startup.done.is_set, f"plugin {plugin.name} starts: {plugin.startup.trouble}")
            providers = gateway.values.health
            await until(lambda: all(one.state == "started" for one in providers()), "each provider names its fields")
        except AssertionError as error:
            behind = {plugin.name: plugin.startup.trouble for plugin in plugins if plugin.startup.trouble}
            await self.stop()
            raise AssertionError(f"{error}; {behind}") from None

    async def stop(self) -> None:
        """Stop cleanly: deliveries that run end, and are checkpointed and settled."""
        if self._running is not None:
            for hold in self._running[2].values():
                hold.open()
            await self._end(self._running[0].stop)

    async def _end(self, stop: Callable[[], Any]) -> None:
        _, _, _, http, listener = self._started
        self._running = None
        await http.aclose()
        if listener is not None:
            await listener.drain()
        await stop()

    @property
    def _started(self) -> tuple[Gateway, list[Plugin], dict[str, Hold], httpx.AsyncClient, Listener | None]:
        if self._running is None:
            raise RuntimeError("the gateway does not run")
        return self._running

    @property
    def _gateway(self) -> Gateway:
        return self._started[0]

    def _plugin(self, name: str) -> Plugin:
        return _named(name, {plugin.name: plugin for plugin in self._started[1]})

    def _hold(self, name: str) -> Hold:
        return _named(name, self._started[2])

    def _consumer(self, name: str) -> Any:
        return _named(name, self._gateway.delivery.consumers)

    def _told(self, name: str) -> str:
        consumer = self._consumer(name)
        behind = f"plugin {name} is {self._gateway.delivery.lag(name)} positions behind, {consumer.parked} events wait"
        return behind if consumer.trouble is None else f"{behind}; {consumer.trouble}"


@asynccontextmanager
async def running_gateway(
    config: str | Mapping[str, Any] = "",
    plugins: Mapping[str, Any] | None = None,
    *,
    directory: Path | None = None,
    journal: JournalKind = "memory",
    listen: bool = False,
) -> AsyncIterator[GatewayUnderTest]:
    """A gateway that runs, with every plugin started.

    `config` is what its `config.toml` says, as TOML or as a mapping: tables of plugins, and whatever else. Where it has
    no organisation there is one, `acme`. `plugins` are classes or instances by the names of their tables; a class gets
    its settings from its table, as an installed one does. `directory` (default: a temporary one) is the folder of the
    config file. With `journal="disk"` the journal is the one on disk. With `listen=True` requests go over a socket.
    `ConfigError` with every fault of the config."""
    with contextlib.ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = plugins or {}
        gateway = GatewayUnderTest(testing_config(config, given, folder), given, journal, listen)
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.stop()


def _named(name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise ValueError(f"no plugin {name!r} runs; {', '.join(known) or 'none'} do")
    return known[name]
