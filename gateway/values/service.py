"""The custom value request, from its query string to its answer: `CustomValues`.

Providers are the plugins with a `custom_values` hook. They are asked together, each for the fields it may know,
under one deadline; the first in config order that knows a field wins. A field without an answer fails the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from gateway.config.convert import ConfigError, Problem
from gateway.config.tables import Config
from gateway.plugin_host.call import describe
from gateway.plugin_host.load import Plugin
from gateway.values.answer import (
    CACHED,
    EMPTY,
    FAILED,
    NULL,
    REFUSED,
    VALUE,
    Answer,
    FieldDetail,
    Found,
    ValuesRecord,
    answered,
    masked,
    problem,
)
from gateway.values.provider import Provider, ProviderHealth, Reply, ask_together
from gateway.values.cache import Cache, Key
from gateway.values.explained import Explained, explained
from gateway.values.rules import Rules
from gateway.values.question import Asked, Malformed, parse_query
from gateway.values.slips import slips

__all__ = ["Answer", "CustomValues", "Explained", "FieldDetail", "ProviderHealth", "ValuesRecord", "explained"]

_log = logging.getLogger("gateway.values")
_Question = tuple[str, str | None, str | None, tuple[str, ...]]


class CustomValues:
    """Answers custom value requests. `on_audit` gets a record of each, when `[values] audit` is on."""

    def __init__(
        self,
        config: Config,
        plugins: Sequence[Plugin],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ConfigError` where a field's `provider` is a plugin that answers no custom values."""
        self.on_audit: Callable[[ValuesRecord], None] | None = None
        self._settings = config.values
        self._monotonic = monotonic
        self._clock = clock
        self._zones = {name: organisation.timezone for name, organisation in config.organisations.items()}
        timeouts = {table.name: table.settings.timeout for table in config.plugins}
        self._providers = [
            Provider(plugin, timeouts.get(plugin.name), monotonic)
            for plugin in plugins
            if "custom_values" in plugin.hooks
        ]
        names = [provider.name for provider in self._providers]
        problems = [
            Problem(
                f"values.fields.{name}.provider",
                f"{field.provider} answers no custom values; those that do: {', '.join(names) or 'none'}",
            )
            for name, field in config.values.fields.items()
            if field.provider is not None and field.provider not in names
        ]
        if problems:
            raise ConfigError(config.source, problems)
        self._rules = Rules(config.values)
        self._cache = Cache(monotonic)
        self._in_flight: dict[_Question, asyncio.Future[Mapping[str, Found] | None]] = {}

    async def start(self) -> None:
        """Learn which fields each provider knows. Call it after the plugins' startup hooks."""
        await asyncio.gather(*(provider.declare(self._settings.deadline) for provider in self._providers))

    async def close(self) -> None:
        for provider in self._providers:
            provider.close()

    def health(self) -> list[ProviderHealth]:
        return [provider.health() for provider in self._providers]

    def warnings(self) -> list[Problem]:
        """What an operator should look at: rules that do nothing, and field names, declared ones too, that differ by
        case only. After `start` more is known of the providers."""
        found = self._rules.warnings(name for provider in self._providers for name in provider.declared)
        return [*slips(self._settings, self._rules, self._providers), *found]

    async def answer(self, organisation: str, query_string: bytes, *, record: bool = True) -> Answer:
        """The answer to one authentic request; never raises. An operator's own is not for the `record`."""
        try:
            asked = parse_query(query_string)
        except Malformed as error:
            return problem(400, str(error))
        if not asked.names:
            return EMPTY
        try:
            answer = answered(await self._find(organisation, asked))
        except Exception as error:
            _log.error("a custom value request failed inside the gateway: %s", describe(error))
            answer = answered(dict.fromkeys(asked.names, Found(FieldDetail(FAILED))))
        if record and self._settings.audit and self.on_audit is not None:
            self._record(self.on_audit, organisation, asked, answer)
        return answer

    async def _find(self, organisation: str, asked: Asked) -> dict[str, Found]:
        """What became of each field, by name as asked."""
        names = {name: self._rules.field(name) for name in asked.names}
        found: dict[str, Found] = {}
        missing = []
        for field in dict.fromkeys(names.values()):
            known = self._at_hand(organisation, asked, field)
            if known is None:
                missing.append(field)
            else:
                found[field] = known
        if missing:
            found.update(await self._shared((organisation, asked.customer_uid, asked.address, tuple(missing))))
        return {name: found[field] for name, field in names.items()}

    def _at_hand(self, organisation: str, asked: Asked, field: str) -> Found | None:
        """What can be said without asking anybody: a refusal, or a remembered value."""
        if self._rules.refuses(field, asked.customer_uid):
            return Found(FieldDetail(REFUSED))
        if self._rules.seconds(field) <= 0:
            return None
        cached = self._cache.get(Key(organisation, asked.customer_uid, asked.address, field))
        return None if cached is None else Found(FieldDetail(CACHED, cached[1]), cached[0])

    async def _shared(self, question: _Question) -> Mapping[str, Found]:
        """Identical questions in flight share one look-up. The first asks; if it is cancelled, another one does."""
        while (theirs := self._in_flight.get(question)) is not None:
            found = await asyncio.shield(theirs)
            if found is not None:
                return found
        ours = self._in_flight[question] = asyncio.get_running_loop().create_future()
        found = None
        try:
            found = await self._look_up(*question)
        finally:
            del self._in_flight[question]
            ours.set_result(found)
        return found

    async def _look_up(
        self, organisation: str, customer_uid: str | None, address: str | None, fields: tuple[str, ...]
    ) -> Mapping[str, Found]:
        expires = self._monotonic() + self._settings.deadline
        zone = self._zones.get(organisation, UTC)
        owners = {field: self._rules.providers(field, self._providers) for field in fields}
        asks = {
            provider: wanted
            for provider in self._providers
            if (wanted := tuple(field for field in fields if provider in owners[field]))
        }
        not_by_address = self._rules.not_by_address(fields, customer_uid, self._providers)
        found: dict[str, Found] = {}

        def decided(replies: Mapping[str, Reply]) -> bool:
            for field in fields:
                if field not in found:
                    decision = self._rules.decide(field, owners[field], replies, zone)
                    if decision is not None:
                        found[field] = decision
            return len(found) == len(fields)

        def ask(provider: Provider, wanted: tuple[str, ...]) -> object:
            return provider.ask(organisation, wanted, customer_uid, address, not_by_address, expires)

        decided(await ask_together(asks, ask, decided) if asks else {})
        self._remember(organisation, customer_uid, address, found)
        return found

    def _remember(
        self, organisation: str, customer_uid: str | None, address: str | None, found: Mapping[str, Found]
    ) -> None:
        """Only answers that are whole: one that failed says nothing sure about the customer."""
        if not all(field.answers for field in found.values()):
            return
        for name, field in found.items():
            seconds = self._rules.seconds(name)
            if seconds > 0 and field.detail.outcome in (VALUE, NULL):
                self._cache.put(
                    Key(organisation, customer_uid, address, name), field.text, field.detail.provider, seconds
                )

    def _record(self, audit: Callable[[ValuesRecord], None], organisation: str, asked: Asked, answer: Answer) -> None:
        try:
            audit(
                ValuesRecord(
                    at=self._clock(),
                    organisation=organisation,
                    customer_uid=asked.customer_uid,
                    address_masked=masked(asked.address),
                    fields=answer.details,
                    status=answer.status,
                )
            )
        except Exception as error:
            _log.error("a custom value request could not be recorded: %s", describe(error))
