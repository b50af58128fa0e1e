"""Erases a customer, an address or a conversation everywhere: in the journal, and in every plugin.

1. The journal erases the events, also those that plugins have not taken yet, with all that it keeps of them. The cache
   of custom values is emptied.
2. Plugins return the events that they have, and get none of the erased ones any more.
3. Each plugin with a `forget` hook erases what it keeps. One that fails is reported, and all others are asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.config.tables import Config
from gateway.journal.erasing import Erased
from gateway.journal.interface import Filter, Journal
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.lifecycle import Lifecycle, StartFailed
from gateway.plugin_host.load import Plugin
from gateway.selector import Selector
from gateway.service import Gateway
from gateway.text import counted

log = logging.getLogger("gateway.audit")

SECONDS: Final = 3600.0
"""How long one plugin may take."""
SHUTDOWN_SECONDS: Final = 30.0


class Forgotten(msgspec.Struct, kw_only=True):
    """How many events matched and were erased in the journal, how many records of custom value requests were erased,
    how many records each plugin erased, what a plugin says of events that it has passed on, and why a plugin failed."""

    matched: int
    done: int
    value_records: int = 0
    plugins: dict[str, int] = {}
    passed_on: dict[str, str] = {}
    failed: dict[str, str] = {}


def selector_of(which: Filter) -> Selector:
    """What plugins get. `ValueError` for a filter that is not of exactly one customer, address or conversation."""
    named = Filter(
        customer=which.customer,
        address=which.address,
        conversation=which.conversation,
        organisation=which.organisation,
    )
    if which != named or sum(map(bool, (which.customer, which.address, which.conversation))) != 1:
        raise ValueError("expected exactly one of customer, address and conversation, and organisation or none")
    return Selector(
        organisation=which.organisation,
        customer_uid=which.customer,
        address=which.address,
        conversation_id=which.conversation,
    )


async def forget_running(gateway: Gateway, which: Filter) -> Forgotten:
    """Erase while the gateway runs. `JournalError`, after which the call can be repeated."""
    selector = selector_of(which)
    erased = await gateway.journal.forget(which)
    gateway.values.forget()
    failed = await gateway.delivery.start_over(erased.seqs)
    done = _outcome_of(erased)
    done.failed = failed
    for plugin in _keeping(gateway.plugins):
        if not plugin.startup.done.is_set():
            failed[plugin.name] = "it has not started"
        elif plugin.name not in failed:
            await _ask(plugin, selector, done)
    return _told(done)


async def forget_stopped(config: Config, plugins: Sequence[Plugin], journal: Journal, which: Filter) -> Forgotten:
    """Erase without a running gateway: each plugin with a `forget` hook is started for it, and shut down again."""
    selector = selector_of(which)
    erased = await journal.forget(which)
    done = _outcome_of(erased)
    for plugin in _keeping(plugins):
        lifecycle = Lifecycle(config, [plugin])
        try:
            await lifecycle.start()
        except StartFailed as error:
            done.failed[plugin.name] = str(error)
            continue
        await _ask(plugin, selector, done)
        await lifecycle.stop(SHUTDOWN_SECONDS)
    return _told(done)


def _keeping(plugins: Sequence[Plugin]) -> list[Plugin]:
    return [plugin for plugin in plugins if "forget" in plugin.hooks]


def _outcome_of(erased: Erased) -> Forgotten:
    return Forgotten(matched=erased.events, done=erased.events, value_records=erased.value_records)


async def _ask(plugin: Plugin, selector: Selector, done: Forgotten) -> None:
    try:
        answer = await plugin.caller.call(plugin.hooks["forget"], selector, timeout=SECONDS)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        done.failed[plugin.name] = plugin.faults.told(error.cause) if isinstance(error, PluginFault) else str(error)
        return
    if type(answer) is int and answer >= 0:
        done.plugins[plugin.name] = answer
    elif type(answer) is str and answer:
        done.passed_on[plugin.name] = answer
    else:
        kind = type(answer).__name__
        done.failed[plugin.name] = f"its forget hook returned {kind}, expected the number of records or a sentence"


def _told(done: Forgotten) -> Forgotten:
    """The outcome; logged without anything of what was erased."""
    parts = [counted(done.done, "event"), counted(done.value_records, "value record")]
    parts += [f"plugin {name}: {count}" for name, count in done.plugins.items()]
    parts += [f"plugin {name} has passed events on" for name in done.passed_on]
    parts += [f"plugin {name} failed: {reason}" for name, reason in done.failed.items()]
    log.info("erased: %s", ", ".join(parts))
    return done
