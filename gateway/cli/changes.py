"""Changes to deliveries: retry or discard dead letters, replay events. A running gateway makes them, asked over its
admin listener; without one they are made in the journal. The commands count first, ask on a terminal, and report."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click
import msgspec

from gateway.cli.failures import Failure
from gateway.cli.output import print_json
from gateway.decoding import Decoder
from gateway.journal import journal_lock, open_journal, open_reader
from gateway.journal.interface import Track
from gateway.journal.lock import GATEWAY, JournalBusy
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.forgetting import Forgotten
    from gateway.journal.interface import Filter, Journal
    from gateway.journal.operator import Kind, StoredOperation

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Gets how many are done, and how many match."""
POLL: Final = 0.1
"""Seconds between two looks at the progress of an operation."""
BEGIN_SECONDS: Final = 600.0
"""How long the gateway may take to count what matches."""


class GoesOn(Failure):
    """The command was interrupted, and what it began goes on."""

    exit_code = 130


class Change(NamedTuple):
    """How many the filter matches, how many were changed, and how many stay because their plugin is off."""

    matched: int
    done: int
    left: int = 0


class Operations:
    """The same calls with and without a running gateway. What cannot be done raises `Failure` or `JournalError`.
    `command` is the name of this process in the journal's lock."""

    def __init__(self, config: Config, command: str) -> None:
        self._config = config
        self._lock = journal_lock(config, command)
        self.offline = False
        """Whether the last change was made without a running gateway: deliveries begin with its next start."""

    def retry_dead(
        self, which: Filter, *, in_order: bool = False, dry_run: bool = False, progress: Progress | None = None
    ) -> Change:
        """Deliver dead letters again, with their attempts counted anew. Those of plugins that are off stay."""
        enabled = self.plugins(which)
        if dry_run:
            with contextlib.closing(open_reader(self._config)) as reader:
                matched = reader.count_dead(which)
                return Change(matched, 0, matched - reader.count_dead(which, enabled))

        async def retry(journal: Journal) -> Change:
            matched = await journal.count_dead(which)
            done = await journal.retry_dead(which, enabled, in_order)
            return Change(matched, done, matched - done)

        if self._take_journal():
            return self._change_journal(retry)
        return self._carried_out("retry", which, in_order, progress)

    def discard_dead(self, which: Filter, *, dry_run: bool = False, progress: Progress | None = None) -> Change:
        """Give dead letters up. Their events stay in the journal for its retention."""
        if dry_run:
            with contextlib.closing(open_reader(self._config)) as reader:
                return Change(reader.count_dead(which), 0)

        async def discard(journal: Journal) -> Change:
            done = await journal.discard_dead(which)
            return Change(done, done)

        if self._take_journal():
            return self._change_journal(discard)
        return self._carried_out("discard", which, progress=progress)

    def replay(self, which: Filter, *, dry_run: bool = False, progress: Progress | None = None) -> Change:
        """Deliver events to `which.plugin` again. A running gateway has delivered them when this returns; it calls
        `progress(done, matched)` meanwhile. Without one, the replay is only recorded: `done` is 0."""
        self.plugins(which)
        if dry_run:
            with contextlib.closing(open_reader(self._config)) as reader:
                return Change(reader.count(which), 0)

        async def record(journal: Journal) -> Change:
            return Change((await journal.new_replay(which)).matched, 0)

        if self._take_journal():
            return self._change_journal(record)
        return self._carried_out("replay", which, progress=progress)

    def forget(self, which: Filter, progress: Progress | None = None) -> Forgotten:
        """Erase a customer, an address or a conversation, in the journal and in every plugin."""
        from gateway.forgetting import Forgotten, forget_stopped
        from gateway.plugin_host.load import load_plugins

        async def forget(journal: Journal) -> Forgotten:
            return await forget_stopped(self._config, load_plugins(self._config), journal, which)

        if self._take_journal():
            return self._change_journal(forget)
        return msgspec.convert(self._wait("forget", which, False, progress), type=Forgotten)

    def listed(self, limit: int) -> list[StoredOperation]:
        """The newest operations, the newest first."""
        with contextlib.closing(open_reader(self._config)) as reader:
            return reader.operations(limit)

    def cancel(self, number: int) -> StoredOperation:
        """Take no further step of an operation. `Failure` where there is none."""

        async def cancel(journal: Journal) -> None:
            if await journal.operation(number) is not None:
                await journal.cancel(number)
                for plugin, seqs in (await journal.retried(number)).items():
                    await journal.take_back(Track(plugin), number, seqs)

        if self._take_journal():
            self._change_journal(cancel)
        else:
            self._cancel(number)
        with contextlib.closing(open_reader(self._config)) as reader:
            if (found := reader.operation(number)) is None:
                raise Failure(f"no operation has the number {number}; `gateway operations` lists them")
            return found

    def _cancel(self, number: int) -> None:
        """Have the running gateway cancel an operation."""
        self._ask("DELETE", f"/api/operations/{number}")

    def _carried_out(
        self, kind: Kind, which: Filter, in_order: bool = False, progress: Progress | None = None
    ) -> Change:
        state = self._wait(kind, which, in_order, progress)
        if state["state"] == "cancelled":
            click.echo(f"operation {state['number']} was cancelled", err=True)
        left = state["matched"] - state["done"] if kind == "retry" and state["state"] == "finished" else 0
        return Change(state["matched"], state["done"], left)

    def _wait(self, kind: Kind, which: Filter, in_order: bool, progress: Progress | None) -> dict[str, Any]:
        """Have the running gateway carry an operation out; returns its end. `Failure` where it failed."""
        asked = {"kind": kind, "filter": which, "in_order": in_order}
        number = self._ask("POST", "/api/operations", asked, BEGIN_SECONDS)["number"]
        try:
            while True:
                state: dict[str, Any] = self._ask("GET", f"/api/operations/{number}")
                if progress is not None:
                    progress(state["done"], state["matched"])
                if state["state"] == "failed":
                    raise Failure(f"operation {number} failed: {state['error']}")
                if state["finished"]:
                    return state
                time.sleep(POLL)
        except KeyboardInterrupt:
            raise GoesOn(
                f"operation {number} goes on in the gateway; `gateway operations` shows it, and `gateway operations"
                f" cancel {number}` cancels it"
            ) from None

    def recognised(self) -> tuple[dict[str, str], int]:
        """The names that events were kept as unknown by, and the hook that the config has for them now; and how many
        events there are without one."""
        decoder = Decoder(self._config)
        with contextlib.closing(open_reader(self._config)) as reader:
            hooks = {name: hook for name in reader.names() if (hook := decoder.hook_of(name)) is not None}
            return hooks, sum(one.number for one in reader.unknown_names() if one.name not in hooks)

    def takers(self, which: Filter, hooks: Mapping[str, str]) -> list[Filter]:
        """The filter for each plugin of `which` that has hooks for some of these names (by the hook of each)."""
        from gateway.plugin_host.load import taken_hooks

        taken = taken_hooks(self._config)
        found = []
        for plugin in self.plugins(which) if which.plugin is None else [which.plugin]:
            own = taken[plugin]
            names = tuple(name for name, hook in hooks.items() if own is None or hook in own)
            if names:
                found.append(msgspec.structs.replace(which, plugin=plugin, hook=None, names=names))
        return found

    def plugins(self, which: Filter) -> list[str]:
        """The enabled plugins that take events. `Failure` where the filter's plugin is not among them."""
        from gateway.plugin_host.load import taking_events

        enabled = taking_events(self._config)
        if which.plugin is not None and which.plugin not in enabled:
            reason = f"the plugin {which.plugin} is not enabled, or takes no events"
            raise Failure(f"{reason}; plugins that take events: {', '.join(enabled) or 'none'}")
        return enabled

    def _take_journal(self) -> bool:
        """Take the journal's lock, unless a gateway has it."""
        while (holder := self._lock.holder()) is None:
            open_reader(self._config).close()  # fails where there is no journal: a change must not create one
            with contextlib.suppress(JournalBusy):
                self._lock.take()
                return True
        if holder.name != GATEWAY:
            raise Failure(f"{holder.name} with process id {holder.process} changes the journal; try again after it")
        return False

    def _change_journal(self, change: Callable[[Journal], Awaitable[T]]) -> T:
        async def run() -> T:
            journal = open_journal(self._config)
            await journal.start()
            try:
                return await change(journal)
            finally:
                await journal.close()

        self.offline = True
        try:
            with self._lock:
                return asyncio.run(run())
        except KeyboardInterrupt:
            raise GoesOn("what has begun goes on with the next `gateway run`; `gateway operations` shows it") from None

    def _ask(self, method: str, path: str, body: Any = None, seconds: float = 60.0) -> Any:
        from gateway.cli.admin_client import request

        return request(self._config, method, path, body, seconds)


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def change_options(function: F) -> F:
    """Adds --dry-run and --yes."""
    function = click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")(function)
    return click.option("--dry-run", is_flag=True, help="Only count what would be changed.")(function)


def confirm(question: str, count: Callable[[], Change], yes: bool, noun: str, *, ask_from: int = 2) -> None:
    """On a terminal, ask before `ask_from` or more are changed. `{n}` in the question is the number with its noun."""
    if yes or not on_terminal():
        return
    change = count()
    number = change.matched - change.left
    if number >= ask_from and not click.confirm(question.format(n=counted(number, noun)), err=True):
        raise Failure("nothing was changed")


def report(change: Change, as_json: bool, dry_run: bool, noun: str, done: str, *, when: str = "") -> None:
    """Print how many matched and what happens to them. `noun` is what was counted, `done` what was done to them, and
    `when` says when that happens, if not before this."""
    left = f"; {change.left} not: their plugins are off" if change.left else ""
    if as_json:
        print_json({"matched": change.matched, "done": change.done})
    elif not change.matched:
        click.echo(f"no {noun} matches", err=True)
    elif dry_run:
        click.echo(f"{change.matched - change.left} would be {done}{left}")
    elif when:
        click.echo(f"{change.matched - change.left} of {change.matched} will be {done} {when}{left}")
    else:
        click.echo(f"{change.done} of {change.matched} {done}{left}")
