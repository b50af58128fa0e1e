"""Rules of `[values]` that do nothing, or hide something, as far as the providers say what they give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.convert import Problem, dotted
from gateway.config.field_types import show
from gateway.config.tables import Values
from gateway.values.provider import Provider
from gateway.values.rules import Rules


def slips(values: Values, rules: Rules, providers: Sequence[Provider]) -> Iterator[Problem]:
    """Warnings for the operator; a provider that does not say what it gives may give anything."""

    def given(field: str) -> bool:
        return not providers or any(provider.may_know(field) for provider in rules.providers(field, providers))

    for index, name in enumerate(values.nullable):
        if not given(rules.field(name)):
            yield Problem(f"values.nullable[{index}]", f"no provider gives {show(name)}, so this does nothing")
    for name, field in values.fields.items():
        path = dotted("values.fields", name)
        constant = field.default is not None and field.required_key is None
        if not constant and not given(name):
            nobody = "no provider gives" if field.provider is None else f"{field.provider} does not give"
            yield Problem(path, f"{nobody} {show(name)}, so its rules do nothing")
        for index, alias in enumerate(field.aliases):
            hidden = [provider.name for provider in providers if alias in provider.declared]
            if hidden:
                yield Problem(f"{path}.aliases[{index}]", f"hides {show(alias)} that {', '.join(hidden)} gives")
