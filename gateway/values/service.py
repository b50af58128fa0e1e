"""Custom values, from the query string of a request to its answer: `CustomValues`.

The providers are the plugins with a `custom_values` hook. They are asked together under one deadline, each for the
fields it may know. The first in config order that knows a field decides it. A field without an answer fails the
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.config.convert import ConfigError, Problem, dotted
from gateway.config.tables import Config, ValuesSettings
from gateway.journal.search import ValueRecord
from gateway.metrics import Histogram
from gateway.plugin_host.load import Plugin
from gateway.text import describe
from gateway.values.answer import (
    CACHED,
    FAILED,
    NULL,
    REFUSED,
    STATUS,
    VALUE,
    Answer,
    FieldDetail,
    Found,
    answer_of,
    problem,
)
from gateway.values.provider import Provider, ProviderHealth, Reply, ask_together
from gateway.values.question import Malformed, Question, parse_query
from gateway.values.rules import Rules

MAX_ENTRIES: Final = 20_000
"""Values in the cache."""
FIRST_WAIT: Final = 2.0
"""Seconds from the gateway's start, in which a request waits for its providers to start. Later it does not."""
_log = logging.getLogger("gateway.values")


class CustomValues:
    """Answers custom value requests. With `[values] audit` on, `keep_record` gets a record of each."""

    def __init__(
        self,
        config: Config,
        plugins: Sequence[Plugin],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ConfigError` where a field's `provider` is a plugin without a `custom_values` hook."""
        self.keep_record: Callable[[ValueRecord], None] | None = None
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Fields that were asked for, by outcome and provider ("" where none decided)."""
        self._settings = config.values
        self._monotonic = monotonic
        self._clock = clock
        self._zones = {name: organisation.timezone for name, organisation in config.organisations.items()}
        self._providers = [Provider(plugin, monotonic) for plugin in plugins if "custom_values" in plugin.hooks]
        names = [provider.name for provider in self._providers]
        known = f"answers no custom values; those that do: {', '.join(names) or 'none'}"
        problems = [
            Problem(path, f"{config.values.fields[path.split('.')[2]].provider} {known}")
            for path in self.missing_providers(config.values)
        ]
        if problems:
            raise ConfigError(config.source, problems)
        self._rules = Rules(config.values, self._providers)
        self._cache = Cache(monotonic)
        self._in_flight: dict[Question, asyncio.Future[Mapping[str, Found] | None]] = {}
        self._beginning: list[asyncio.Task[None]] = []
        self._wait_until = 0.0

    def missing_providers(self, values: ValuesSettings) -> list[str]:
        """The keys of `[values.fields]` that name a provider which is not there."""
        names = {provider.name for provider in self._providers}
        return [
            f"values.fields.{name}.provider"
            for name, field in values.fields.items()
            if field.provider is not None and field.provider not in names
        ]

    def apply(self, config: Config) -> None:
        """Answer by another config from the next request on; its providers must be the same."""
        self._settings = config.values
        self._zones = {name: organisation.timezone for name, organisation in config.organisations.items()}
        self._rules = Rules(config.values, self._providers)
        self._cache = Cache(self._monotonic)

    def forget(self) -> None:
        """Empty the cache. A request by an address may be about any customer, so there is nothing to select by."""
        self._cache = Cache(self._monotonic)

    def begin(self) -> None:
        """Ask each provider which fields it may know, in the background, once it has started. Until then, requests to
        it fail."""
        self._wait_until = self._monotonic() + FIRST_WAIT
        for provider in self._providers:
            begin = provider.begin(self._settings.deadline)
            self._beginning.append(asyncio.create_task(begin, name=f"fields of {provider.name}"))

    async def start(self) -> None:
        """Ask each provider now which fields it may know, and begin to send requests to it."""
        await asyncio.gather(*(provider.open(self._settings.deadline) for provider in self._providers))

    async def close(self) -> None:
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        for provider in self._providers:
            provider.close()

    def health(self) -> list[ProviderHealth]:
        return [provider.health() for provider in self._providers]

    def seconds(self) -> dict[str, Histogram]:
        """How long requests to each provider took."""
        return {provider.name: provider.seconds for provider in self._providers}

    def warnings(self) -> list[Problem]:
        """Settings that are deprecated or likely mistakes. After `start` more of them are found."""
        deprecated = "also bounds custom values here, which is deprecated; write values_timeout"
        timeouts = [
            Problem(f"{dotted('plugins', provider.name)}.timeout", deprecated)
            for provider in self._providers
            if provider.bounded_by_delivery
        ]
        return [*timeouts, *self._rules.warnings()]

    async def answer(self, organisation: str, query_string: bytes, *, record: bool = True) -> Answer:
        """The answer to one authenticated request; never raises. `record` is false for an operator's own question."""
        try:
            question = parse_query(organisation, query_string)
        except Malformed as error:
            return problem(400, str(error))
        if not question.fields:
            return answer_of({})  # a connection test
        try:
            answer = answer_of(await self._find(question))
        except Exception as error:
            _log.error("a custom value request failed inside the gateway: %s", describe(error))
            answer = answer_of(dict.fromkeys(question.fields, Found(FieldDetail(FAILED))))
        if record:
            for detail in answer.details.values():
                self.outcomes[detail.outcome, detail.provider or ""] += 1
            if self._settings.audit and self.keep_record is not None:
                self._record(self.keep_record, question, answer)
        return answer

    async def _find(self, question: Question) -> dict[str, Found]:
        """What became of each field, by the name asked for."""
        names = {name: self._rules.field(name) for name in question.fields}
        found: dict[str, Found] = {}
        missing = []
        for field in dict.fromkeys(names.values()):
            known = self._without_providers(question, field)
            if known is None:
                missing.append(field)
            else:
                found[field] = known
        if missing:
            found.update(await self._shared(question.about(tuple(missing))))
        return {name: found[field] for name, field in names.items()}

    def _without_providers(self, question: Question, field: str) -> Found | None:
        """What needs no look-up: a refusal, or a remembered value."""
        if self._rules.refuses(field, question):
            return Found(FieldDetail(REFUSED))
        if self._rules.cache_seconds(field) <= 0:
            return None
        return self._cache.get(question.about((field,)))

    async def _shared(self, question: Question) -> Mapping[str, Found]:
        """Identical questions in flight share one look-up, made by the first of them. Where that one is cancelled,
        another one makes it."""
        while (theirs := self._in_flight.get(question)) is not None:
            found = await asyncio.shield(theirs)
            if found is not None:
                return found
        ours = self._in_flight[question] = asyncio.get_running_loop().create_future()
        found = None
        try:
            found = await self._look_up(question)
        finally:
            del self._in_flight[question]
            ours.set_result(found)
        return found

    async def _look_up(self, question: Question) -> Mapping[str, Found]:
        expires = self._monotonic() + self._settings.deadline
        await self._wait_for_starts(question, expires)
        zone = self._zones.get(question.organisation, UTC)
        owners = {field: self._rules.providers(field) for field in question.fields}
        asks = {
            provider: question.about(wanted)
            for provider in self._providers
            if (wanted := tuple(field for field in question.fields if provider in owners[field]))
        }
        not_by_address = self._rules.not_by_address(question)
        found: dict[str, Found] = {}

        def decided(replies: Mapping[str, Reply]) -> bool:
            for field in question.fields:
                if field not in found:
                    decision = self._rules.decide(field, owners[field], replies, zone)
                    if decision is not None:
                        found[field] = decision
            return len(found) == len(question.fields)

        decided(await ask_together(asks, lambda one, part: one.ask(part, not_by_address, expires), decided))
        self._remember(question, found)
        return found

    async def _wait_for_starts(self, question: Question, expires: float) -> None:
        """In the first seconds of the gateway, wait for the providers that may know these fields: their startups have
        only just begun, and which fields they know is not known before."""
        left = min(expires, self._wait_until) - self._monotonic()
        if left > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    for provider in {one for field in question.fields for one in self._rules.providers(field)}:
                        await provider.ready.wait()

    def _remember(self, question: Question, found: Mapping[str, Found]) -> None:
        """Only where every field has an answer: a failure leaves it unsure which customer this is."""
        if any(field.detail.outcome in STATUS for field in found.values()):
            return
        for name, field in found.items():
            seconds = self._rules.cache_seconds(name)
            if seconds > 0 and field.detail.outcome in (VALUE, NULL):
                cached = Found(FieldDetail(CACHED, field.detail.provider), field.text)
                self._cache.put(question.about((name,)), cached, seconds)

    def _record(self, keep: Callable[[ValueRecord], None], question: Question, answer: Answer) -> None:
        try:
            keep(
                ValueRecord(
                    at=self._clock(),
                    organisation=question.organisation,
                    customer_uid=question.customer_uid,
                    address=_masked(question.address),
                    fields={name: msgspec.to_builtins(detail) for name, detail in answer.details.items()},
                    status=answer.status,
                )
            )
        except Exception as error:
            _log.error("a custom value request could not be recorded: %s", describe(error))


class Cache:
    """Values by question: organisation, customer UID, address and field must all be the same. Holds at most
    `max_entries`; when it is full, the oldest entry goes."""

    def __init__(self, monotonic: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._monotonic = monotonic
        self._max_entries = max_entries
        self._entries: dict[Question, tuple[float, Found]] = {}

    def get(self, question: Question) -> Found | None:
        """What was found for a question of one field, or None once it has expired."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= self._monotonic():
            del self._entries[question]
            return None
        return entry[1]

    def put(self, question: Question, found: Found, seconds: float) -> None:
        self._entries.pop(question, None)
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[question] = (self._monotonic() + seconds, found)


def _masked(address: str | None) -> str | None:
    """The address with "*" for all but its last 3 characters; for all of them where it has fewer than 8."""
    if address is None:
        return None
    shown = 3 if len(address) >= 8 else 0
    return "*" * (len(address) - shown) + address[len(address) - shown :]
