"""The rules of each field: which providers may answer it, its names, and what its value must look like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from itertools import combinations
from typing import Any

from gateway.config.convert import Problem, dotted
from gateway.config.field_types import show
from gateway.config.tables import FieldSettings, ValuesSettings
from gateway.values.answer import (
    DEFAULT,
    FAILED,
    LATE,
    NULL,
    SKIPPED,
    STARTING,
    UNKNOWN,
    VALUE,
    BadValue,
    FieldDetail,
    Found,
    as_text,
    loggable,
)
from gateway.values.provider import Provider, Reply, failure_of
from gateway.values.question import Question

_PLAIN = FieldSettings()
_ERRORS = frozenset({FAILED, SKIPPED, STARTING, LATE})


class Rules:
    """`[values]` as look-ups: alias to field, field to settings, field to the providers that may know it."""

    def __init__(self, values: ValuesSettings, providers: Sequence[Provider]) -> None:
        self._values = values
        self._providers = providers
        self._fields = values.fields
        self._aliases = {alias: name for name, field in values.fields.items() for alias in field.aliases}
        self._nullable = {self._aliases.get(name, name) for name in values.nullable}
        self._nullable |= {name for name, field in values.fields.items() if field.nullable}

    def field(self, name: str) -> str:
        """The field that a name in a request stands for: itself, unless it is an alias."""
        return self._aliases.get(name, name)

    def settings(self, field: str) -> FieldSettings:
        return self._fields.get(field, _PLAIN)

    def cache_seconds(self, field: str) -> float:
        """How long the field's value may be remembered; 0: not at all."""
        own = self.settings(field).cache
        return self._values.cache if own is None else own

    def refuses(self, field: str, question: Question) -> bool:
        """Whether the field must not be looked up without a customer UID, and the question has none."""
        return question.customer_uid is None and self.settings(field).required_key == "customer_uid"

    def not_by_address(self, question: Question) -> frozenset[str]:
        """The fields that must not be looked up by the address alone. Empty without a customer UID. With one:
        the fields that one of their providers can look up by it, and those with a `required_key`."""
        if question.customer_uid is None:
            return frozenset()
        return frozenset(
            field
            for field in question.fields
            if self.settings(field).required_key is not None
            or any(provider.may_know_by_uid(field) for provider in self.providers(field))
        )

    def providers(self, field: str) -> list[Provider]:
        """Those that may know the field. Where several know it, the first one's value counts."""
        owner = self.settings(field).provider
        if owner is not None:
            return [provider for provider in self._providers if provider.name == owner]
        return [provider for provider in self._providers if provider.may_know(field)]

    def decide(self, field: str, asked: Iterable[Provider], replies: Mapping[str, Reply], zone: tzinfo) -> Found | None:
        """What became of the field, or None while a reply that decides it is still missing. `zone` is the
        organisation's: formats show times in it.

        The first provider in order that knows the field decides. One that failed might have known it, so its failure
        decides, too, unless the field's `fallback` lets the next one answer.
        """
        settings = self.settings(field)
        failure: FieldDetail | None = None
        last: FieldDetail | None = None
        for provider in asked:
            reply = replies.get(provider.name)
            if reply is None:
                return None
            found = self._from_reply(field, provider, reply, zone)
            if found.detail.outcome in _ERRORS:
                failure = failure or found.detail
                if not settings.fallback:
                    break
            elif found.detail.outcome != UNKNOWN:
                return found
            last = found.detail
        detail = failure or last or FieldDetail(UNKNOWN)
        default_on_error = settings.default_on_error and detail.outcome in _ERRORS
        if settings.default is not None and (detail.outcome == UNKNOWN or default_on_error):
            return Found(FieldDetail(DEFAULT, detail.provider, detail.ms), settings.default)
        return Found(detail)

    def _from_reply(self, field: str, provider: Provider, reply: Reply, zone: tzinfo) -> Found:
        def detail(outcome: str) -> FieldDetail:
            return FieldDetail(outcome, provider.name, reply.ms)

        if reply.failure is not None:
            return Found(detail(reply.failure))
        if field not in reply.values:
            return Found(detail(UNKNOWN))
        value = reply.values[field]
        if isinstance(value, Exception):
            return Found(detail(failure_of(value)))
        if value is None:
            return Found(detail(NULL if field in self._nullable else UNKNOWN))
        try:
            return Found(detail(VALUE), _written(value, self.settings(field), zone))
        except BadValue as error:
            where = f" in {field}" if loggable(field) else ""
            provider.log_failure(BadValue(f"{error}{where}"))
            return Found(detail(FAILED))

    def warnings(self) -> list[Problem]:
        """Rules without an effect, rules that hide a field, and names that differ by case only: likely mistakes. More
        of them are found once the providers have declared their fields."""
        return [*self._without_effect(), *self._alike()]

    def _without_effect(self) -> Iterator[Problem]:
        for index, name in enumerate(self._values.nullable):
            if not self._may_be_known(self.field(name)):
                yield Problem(f"values.nullable[{index}]", f"no provider gives {show(name)}, so this does nothing")
        for name, field in self._fields.items():
            path = dotted("values.fields", name)
            constant = field.default is not None and field.required_key is None
            if not constant and not self._may_be_known(name):
                subject = "no provider gives" if field.provider is None else f"{field.provider} does not give"
                yield Problem(path, f"{subject} {show(name)}, so its rules do nothing")
            for index, alias in enumerate(field.aliases):
                hidden = [provider.name for provider in self._providers if alias in provider.declared]
                if hidden:
                    yield Problem(f"{path}.aliases[{index}]", f"hides {show(alias)} that {', '.join(hidden)} gives")

    def _may_be_known(self, field: str) -> bool:
        return not self._providers or any(provider.may_know(field) for provider in self.providers(field))

    def _alike(self) -> Iterator[Problem]:
        declared = {name for provider in self._providers for name in provider.declared}
        names = sorted({*self._fields, *self._aliases, *self._nullable, *declared})
        for one, other in combinations(names, 2):
            if one.casefold() == other.casefold() and self.field(one) != self.field(other):
                yield Problem(f"values.fields.{one}", f"differs from {other!r} by case only; they are two fields")


def _written(value: Any, settings: FieldSettings, zone: tzinfo) -> str:
    text = as_text(value)
    if settings.format is not None:
        try:
            text = as_text(settings.format.write(value, zone))
        except (ValueError, ArithmeticError):
            raise BadValue("a value that does not fit the field's format") from None
    if settings.pattern is not None:
        try:
            matches = settings.pattern.matches(text)
        except ValueError as error:
            raise BadValue(f"a value that {error}") from None
        if not matches:
            raise BadValue("a value that does not match the field's pattern")
    return text
