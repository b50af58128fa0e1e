"""The page Config: what is in effect, the plugins, and what `gateway check` says of the config file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException

from gateway.config.convert import ConfigError, Problem
from gateway.http.api.context import AnyRequest, NotNow
from gateway.http.api.effective import effective
from gateway.http.audit import audit
from gateway.http.dashboard.rendering import Renderer
from gateway.journal.interface import Filter
from gateway.plugin_host.load import Plugin
from gateway.preflight import examine_config
from gateway.service import Gateway
from gateway.text import counted

CHECK_SECONDS: Final = 60.0
"""How long a check of the environment may take."""
_CHECK: Final = "from gateway.cli import main; main()"


class CheckedFile(msgspec.Struct, kw_only=True):
    """What `gateway check` says of the config file; `whole` is whether it looked at the environment, too."""

    errors: list[Problem]
    warnings: list[Problem]
    whole: bool = False


class PluginView(msgspec.Struct, kw_only=True):
    """An enabled plugin, with its settings as dotted keys."""

    name: str
    plugin: str
    version: str
    hooks: list[str]
    keys: list[tuple[str, str]]


class ConfigView(msgspec.Struct, kw_only=True):
    """`keys` are those of every other table, with their values."""

    source: str
    checked: CheckedFile
    plugins: list[PluginView]
    keys: list[tuple[str, str]]


def config_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    gateway, busy = renderer.context.gateway, asyncio.Lock()

    async def show(request: AnyRequest, checked: CheckedFile) -> Response[bytes]:
        tables = effective(gateway)
        plugins, source = tables.pop("plugins"), tables.pop("source")
        view = ConfigView(
            source=source,
            checked=checked,
            plugins=[_plugin(one, plugins.get(one.name, {})) for one in gateway.plugins],
            keys=list(_flat(tables)),
        )
        return await renderer.page(request, "config.html", "Config", view, place="config")

    @get("/config")
    async def config(request: AnyRequest) -> Response[bytes]:
        return await show(request, await asyncio.to_thread(_check_file, gateway))

    @post("/config", opt={"form": True}, status_code=200)
    async def check(request: AnyRequest) -> Response[bytes]:
        await renderer.form(request)
        if busy.locked():
            raise NotNow(detail="another check is running; wait for it")
        async with busy:
            checked = await _check_environment(gateway)
        faults = f"{counted(len(checked.errors), 'error')}, {counted(len(checked.warnings), 'warning')}"
        audit(request, "check of the config", Filter(), faults)
        return await show(request, checked)

    return [config, check]


def _check_file(gateway: Gateway) -> CheckedFile:
    """The fields of the file, and what they name. Runs in a thread: it reads files, and makes the plugins."""
    try:
        examined = examine_config(gateway.config.source)
    except ConfigError as error:
        return CheckedFile(errors=error.problems, warnings=[])
    for plugin in examined.plugins:
        plugin.close()  # only their settings were needed
    values = [] if examined.values is None else examined.values.warnings()
    return CheckedFile(errors=examined.fields + examined.wiring, warnings=[*examined.warnings, *values])


async def _check_environment(gateway: Gateway) -> CheckedFile:
    """All levels, by `gateway check` in a process of its own: what a plugin's check does cannot hold up this one."""
    source = gateway.config.source
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHECK, "check", "--json", "-c", os.fspath(source)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            output, _ = await process.communicate()
        return msgspec.structs.replace(msgspec.json.decode(output, type=CheckedFile), whole=True)
    except (TimeoutError, msgspec.MsgspecError):
        detail = f"the check gave no answer within {CHECK_SECONDS:g} s; run `gateway check` on a terminal"
        raise HTTPException(status_code=504, detail=detail) from None
    finally:
        if process.returncode is None:
            process.kill()


def _plugin(plugin: Plugin, table: Mapping[str, Any]) -> PluginView:
    version = f"{plugin.distribution} {plugin.version}".strip()
    return PluginView(
        name=plugin.name, plugin=plugin.plugin, version=version, hooks=sorted(plugin.hooks), keys=list(_flat(table))
    )


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key with its dotted path."""
    for name, value in tables.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and value not in ([], {}):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{name}", str(shown).lower() if isinstance(shown, bool) else str(shown)
