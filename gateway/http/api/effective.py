"""The config as it is in effect, for an operator's eyes: with every default, and with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.config.field_types import Duration, Secret, Size
from gateway.config.tables import Config, PluginTable
from gateway.service import Gateway

MASK: Final = "…"
_SECRET_KEY: Final = re.compile(r"secret|password|passwd|token|credential|authorization|cookie|api.?key", re.IGNORECASE)
_URL_USER: Final = re.compile(r"(?<=://)[^/@\s]+@")
_URL_QUERY: Final = re.compile(r"(?<=[?&])([^=&\s]*(?:secret|password|token|key|sig)[^=&\s]*)=[^&\s]+", re.IGNORECASE)
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES: Final = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def effective(gateway: Gateway) -> dict[str, Any]:
    """Each table of the config by its name. Of plugins, the keys as written; `headers` are masked."""
    config: Config = gateway.config
    tables = {
        name: shown(getattr(config, name))
        for name in (
            "node",
            "server",
            "admin",
            "journal",
            "delivery",
            "values",
            "log",
            "tracing",
            "organisations",
            "hooks",
        )
    }
    return {"source": str(config.source), **tables, "plugins": {one.name: _plugin(one) for one in config.plugins}}


def _plugin(table: PluginTable) -> dict[str, Any]:
    settings: dict[str, Any] = shown(table.settings)
    return {**{key: value for key, value in settings.items() if value is not None}, **shown(table.table)}


def shown(value: Any, key: str = "") -> Any:
    """A value of the config as JSON has it; durations and sizes as the config file writes them."""
    if isinstance(value, Secret):
        return f"{MASK} ({value.source})"
    if isinstance(value, Duration):
        return _duration(value)
    if isinstance(value, Size):
        return next((f"{value // unit} {name}" for name, unit in _SIZES if value >= unit and not value % unit), value)
    if isinstance(value, msgspec.Struct):
        names = {field.name: field.encode_name for field in msgspec.structs.fields(value)}
        return {encoded: shown(getattr(value, name), encoded) for name, encoded in names.items()}
    if isinstance(value, Mapping):
        if key.lower() in ("headers", "claims"):
            return {name: shown(inner, name) if _is_reference(inner) else MASK for name, inner in value.items()}
        return {str(name): shown(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(inner, key) for inner in value]
    if isinstance(value, str):
        if _SECRET_KEY.search(key):
            return MASK
        return _URL_QUERY.sub(rf"\1={MASK}", _URL_USER.sub(f"{MASK}@", value))
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def _is_reference(value: Any) -> bool:
    """Whether a value names where a secret is: `{ file = ... }` or `{ env = ... }`."""
    return isinstance(value, Mapping) and set(value) in ({"file"}, {"env"})


def _duration(seconds: float) -> str:
    if seconds < 1 and seconds:
        return f"{seconds * 1000:g}ms"
    return next(
        (f"{seconds / unit:g}{name}" for name, unit in _UNITS if seconds and not seconds % unit), f"{seconds:g}s"
    )
