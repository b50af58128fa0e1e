"""What a gateway tells the others on its journal about its config, so that a difference is noticed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.config.tables import Config, OrganisationSettings
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.plugin_file import PluginFile


class ConfigSummary:
    """The organisations, without their secrets, and the plugins. Paths are left out: they may differ per host. Long
    parts are digests."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = plugins
        self._versions = {plugin.name: _version(plugin) for plugin in plugins}

    def of(self, config: Config) -> dict[str, Any]:
        """The summary as JSON has it; `config` is the one in force."""
        return {
            "organisations": {name: _settings(settings) for name, settings in config.organisations.items()},
            "plugins": {plugin.name: self._plugin(plugin) for plugin in self._plugins},
        }

    def _plugin(self, plugin: Plugin) -> dict[str, Any]:
        where = plugin.where.expression
        return {
            "use": "" if isinstance(plugin.source, PluginFile) else plugin.plugin,
            "version": self._versions[plugin.name],
            "hooks": _names(plugin.settings.hooks),
            "organisations": _names(plugin.settings.organisations),
            "where": where and _digest(where.text.encode()),
            "shards": plugin.delivery.shards,
        }


def _version(plugin: Plugin) -> str:
    """Of a plugin in a file, a digest of its text."""
    if not isinstance(plugin.source, PluginFile):
        return plugin.version
    with contextlib.suppress(OSError):
        return f"text {_digest(plugin.source.path.read_bytes())}"
    return ""


def _names(names: Sequence[str] | None) -> str | None:
    return None if names is None else _digest("\n".join(sorted(names)).encode())


def _settings(settings: OrganisationSettings) -> str:
    told = {name: getattr(settings, name) for name in settings.__struct_fields__ if name != "secrets"}
    return _digest(msgspec.json.encode(told, order="sorted", enc_hook=str))


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=6).hexdigest()
