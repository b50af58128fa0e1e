"""Erases a customer, an address or a conversation everywhere: in the journal, and in every plugin.

1. The journal erases the events, also those that plugins have not taken yet, with all that it keeps of them. The cache
   of custom values is emptied.
2. Plugins return the events that they have, and get none of the erased ones any more.
3. Each plugin with a `forget` hook erases what it keeps. One that fails is reported, and all others are asked.

Other gateways that run with the same journal do the second and the third step, too, and tell what their plugins said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final

import msgspec

from gateway.config.tables import Config
from gateway.delivery.service import Delivery
from gateway.journal.interface import Filter, Journal, JournalError
from gateway.journal.operator import Operator, PluginAnswers, StoredOperation
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.lifecycle import Lifecycle, StartFailed
from gateway.plugin_host.load import Plugin
from gateway.selector import Selector
from gateway.text import counted
from gateway.values.service import CustomValues

log = logging.getLogger("gateway.audit")

SECONDS: Final = 3600.0
"""How long one plugin may take."""
SHUTDOWN_SECONDS: Final = 30.0
OTHERS: Final = 0.2
"""Seconds between two looks at what other gateways have answered."""


class Forgotten(msgspec.Struct, kw_only=True):
    """How many events matched and were erased in the journal, how many records of custom value requests were erased,
    how many records each plugin erased, what a plugin says of events that it has passed on, and why a plugin failed."""

    matched: int
    done: int
    value_records: int = 0
    plugins: dict[str, int] = {}
    passed_on: dict[str, str] = {}
    failed: dict[str, str] = {}

    @classmethod
    def of(cls, operation: StoredOperation) -> Forgotten:
        """The outcome of an operation."""
        return cls(
            matched=operation.matched,
            done=operation.done,
            value_records=operation.value_records,
            plugins=operation.answers.erased,
            passed_on=operation.answers.passed_on,
            failed=operation.answers.failed,
        )


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


async def forget_running(
    journal: Journal,
    values: CustomValues,
    delivery: Delivery,
    plugins: Sequence[Plugin],
    operation: StoredOperation,
    patience: float,
) -> None:
    """Carry out the erasure that an operation asks for, while the gateway runs. Each plugin that has not started is
    waited for, at most `patience` seconds. `JournalError`, after which the call can be repeated."""
    number = operation.number
    if operation.is_cleared:
        await _end(journal, number)
        return
    erased = await journal.forget(operation.filter, number)
    await journal.share_erasure(number)
    answers = operation.answers
    async for _ in _asked(values, delivery, plugins, operation, patience, erased.seqs):
        await journal.tell_answers(number, answers)
    for name, told in (await _answers_of_others(journal, number)).items():
        _add(answers, name, told, _keeping(plugins))
    await journal.tell_answers(number, answers)
    await _end(journal, number)


async def _answers_of_others(journal: Journal, number: int) -> Mapping[str, PluginAnswers | None]:
    while True:
        if (found := await journal.answers_of_others(number)) is not None:
            return found
        await asyncio.sleep(OTHERS)


async def forget_for_another(
    journal: Journal,
    values: CustomValues,
    delivery: Delivery,
    plugins: Sequence[Plugin],
    operation: StoredOperation,
    patience: float,
) -> None:
    """Do this gateway's part of an erasure that another one carries out: the same, but for the journal."""
    operation.answers = PluginAnswers()
    async for _ in _asked(values, delivery, plugins, operation, patience, ()):
        pass
    await journal.answer_erasure(operation.number, operation.answers)


async def _asked(
    values: CustomValues,
    delivery: Delivery,
    plugins: Sequence[Plugin],
    operation: StoredOperation,
    patience: float,
    gone: Collection[int],
) -> AsyncIterator[Plugin]:
    """Have every plugin return the events that it has, and ask those that keep any; yields each that has answered."""
    answers, selector = operation.answers, selector_of(operation.filter)
    values.forget()
    answers.failed = await delivery.start_over(gone)
    for plugin in _keeping(plugins):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await plugin.startup.done.wait()
        if not plugin.startup.done.is_set():
            answers.failed[plugin.name] = "it has not started"
        elif plugin.name not in answers.failed:
            await _ask(plugin, selector, answers)
        yield plugin


def _add(answers: PluginAnswers, gateway: str, told: PluginAnswers | None, keeping: Sequence[Plugin]) -> None:
    """Add what the plugins of another gateway have answered, or that it stopped before they had."""
    if told is None:
        stopped = "its gateway stopped before it had answered"
        told = PluginAnswers(failed={plugin.name: stopped for plugin in keeping})
    for plugin, count in told.erased.items():
        answers.erased[plugin] = answers.erased.get(plugin, 0) + count
    answers.passed_on |= told.passed_on
    answers.failed |= {f"{plugin} ({gateway})": reason for plugin, reason in told.failed.items()}


async def forget_stopped(
    config: Config, plugins: Sequence[Plugin], journal: Operator, which: Filter, number: int | None = None
) -> Forgotten:
    """Erase without a running gateway: each plugin with a `forget` hook is started for it, and shut down again.
    `number` is the operation that has begun for it, if one has."""
    selector = selector_of(which)
    if number is None:
        number = (await journal.begin("forget", which)).number
    await journal.forget(which, number)
    answers = PluginAnswers()
    for plugin in _keeping(plugins):
        lifecycle = Lifecycle(config, [plugin])
        try:
            await lifecycle.start()
        except StartFailed as error:
            answers.failed[plugin.name] = str(error)
            continue
        await _ask(plugin, selector, answers)
        await lifecycle.stop(SHUTDOWN_SECONDS)
    await journal.tell_answers(number, answers)
    return await _end(journal, number)


async def _end(journal: Operator, number: int) -> Forgotten:
    """Forget whom the erasure was about, and tell the outcome; logged without anything of what was erased."""
    await journal.clear(number)
    await journal.wipe()
    await journal.end(number)
    operation = await journal.operation(number)
    if operation is None:
        raise JournalError(f"operation {number} is damaged")
    told = Forgotten.of(operation)
    parts = [counted(told.done, "event"), counted(told.value_records, "value record")]
    parts += [f"plugin {name}: {count}" for name, count in told.plugins.items()]
    parts += [f"plugin {name} has passed events on" for name in told.passed_on]
    parts += [f"plugin {name} failed: {reason}" for name, reason in told.failed.items()]
    log.info("erased: %s", ", ".join(parts))
    return told


def _keeping(plugins: Sequence[Plugin]) -> list[Plugin]:
    return [plugin for plugin in plugins if "forget" in plugin.hooks]


async def _ask(plugin: Plugin, selector: Selector, answers: PluginAnswers) -> None:
    name = plugin.name
    try:
        answer = await plugin.caller.call(plugin.hooks["forget"], selector, timeout=SECONDS)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        answers.failed[name] = plugin.faults.told(error.cause) if isinstance(error, PluginFault) else str(error)
        return
    if type(answer) is int and answer >= 0:
        answers.erased[name] = answers.erased.get(name, 0) + answer
    elif type(answer) is str and answer:
        answers.passed_on[name] = answer
    else:
        kind = type(answer).__name__
        answers.failed[name] = f"its forget hook returned {kind}, expected the number of records or a sentence"
