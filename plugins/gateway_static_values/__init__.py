"""Custom values that are constants: opening hours, a support number; per organisation where they differ."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from gateway import CustomValueRequest, OrganisationName, Value, Values, hookimpl

__all__ = ["TIER", "StaticValuesPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""


class Constant:
    """A text, a number, true or false, or a date."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str | int | float | date) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError("expected a text, a number, true or false, or a date")
        return cls(value)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`values` for every organisation; those in `organisations` replace them for one."""

    values: Annotated[
        dict[str, Constant], msgspec.Meta(description="The values by field, for every organisation.")
    ] = {}
    organisations: Annotated[
        dict[OrganisationName, dict[str, Constant]],
        msgspec.Meta(description="Values that replace those, by organisation and field."),
    ] = {}


class StaticValuesPlugin:
    """Answers custom values from the config, the same for every customer."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        self._common = _plain(config.values)
        self._own: dict[str, dict[str, Value]] = {
            name: {**self._common, **_plain(values)} for name, values in config.organisations.items()
        }

    @hookimpl
    def custom_value_fields(self) -> set[str]:
        return set(self._common).union(*self._own.values())

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Values:
        values = self._own.get(request.organisation, self._common)
        return {field: values[field] for field in request.fields if field in values}


def _plain(values: dict[str, Constant]) -> dict[str, Value]:
    return {name: constant.value for name, constant in values.items()}
