"""What of the machine a configuration needs: files, folders, ports, and what plugins find when they look."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomli

from gateway.cli.ports import own_port
from gateway.config.convert import Problem, dotted
from gateway.config.rules import is_loopback
from gateway.config.tables import Config
from gateway.config.tls import tls_faults
from gateway.journal import check_journal, journal_lock
from gateway.journal.interface import JournalError
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck, describe
from gateway.plugin_host.load import Plugin

_CHECK_TIMEOUT: Final = 15.0
_NETWORK_FILE_SYSTEMS: Final = re.compile(
    r"(fuse\.)?(9p|afs|beegfs|ceph|cifs|glusterfs|lustre|ncpfs|nfs4?|rclone|s3fs|smb3|smbfs|sshfs)"
)


class Finding(NamedTuple):
    """A fault, or only a warning, at the level of the environment."""

    problem: Problem
    warning: bool = False


def examine(config: Config, plugins: list[Plugin], unsound: Collection[str] = ()) -> Iterator[Finding]:
    """Everything found wrong; changes nothing. Of the tables that are `unsound` the config knows only defaults."""
    yield from _secret_files(config)
    if "journal" not in unsound:
        yield from _journal(config)
    if "server" not in unsound:
        yield from _tls(config)
    yield from _listeners(config, unsound)
    yield from asyncio.run(_plugins(plugins))


def _error(path: str, message: str) -> Finding:
    return Finding(Problem(path, message))


def _warning(path: str, message: str) -> Finding:
    return Finding(Problem(path, message), warning=True)


def _secret_files(config: Config) -> Iterator[Finding]:
    document = tomli.loads(config.source.read_text(encoding="utf-8-sig"))
    for path, name in _file_references(document, ""):
        yield from _private(path, config.directory / name)


def _file_references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every `{ file = "..." }` of the document, the way secrets are written, with its dotted path."""
    if isinstance(value, dict):
        if value.keys() == {"file"} and isinstance(value["file"], str):
            yield path, value["file"]
        for key, inner in value.items():
            yield from _file_references(inner, dotted(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _file_references(inner, f"{path}[{index}]")


def _private(path: str, file: Path) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except (OSError, ValueError):
        return  # what cannot be read at all was found before
    if mode & 0o077:
        yield _warning(path, f"{file} can be read by others (mode {mode:04o}); `chmod 600` it")


def _journal(config: Config) -> Iterator[Finding]:
    path = "journal.path"
    journal = config.journal.path
    folder = journal.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        yield _error(path, f"{folder} is not a folder")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield _error(path, f"the folder {folder} cannot be written to by this user")
    elif journal.exists() and not os.access(journal, os.R_OK | os.W_OK):
        yield _error(path, f"{journal} cannot be read and written by this user")
    elif not journal_lock(config).is_held():  # one that is being written to is not looked into
        try:
            if (warning := check_journal(config)) is not None:
                yield _warning(path, warning)
        except JournalError as error:
            yield _error(path, str(error))
    kind = _file_system(folder)
    if kind is not None and _NETWORK_FILE_SYSTEMS.fullmatch(kind):
        yield _error(path, f"{folder} is on a network file system ({kind}), which cannot keep a journal safe")
    free = shutil.disk_usage(folder).free
    used = journal.stat().st_size if journal.exists() else 0
    if free < config.journal.min_free:
        what = f"{_mib(free)} free at {folder} is less than the {_mib(config.journal.min_free)} of min_free"
        yield _error("journal.min_free", f"{what}: new events would be answered 503")
    elif free + used < config.journal.max_size:
        what = f"the journal may grow to {_mib(config.journal.max_size)}, but its disk has only {_mib(free)} free"
        yield _warning("journal.max_size", f"{what}; new events are answered 503 from min_free on")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _file_system(folder: Path) -> str | None:
    """The type of the file system that holds a folder; None where the machine does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    place = folder.resolve()
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if place.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), after.split()[0])
    return found and found[1]


def _tls(config: Config) -> Iterator[Finding]:
    tls = config.server.tls
    if tls is None:
        if not is_loopback(config.server.host) and not config.server.trusted_proxies:
            message = "is not loopback and there is no TLS: tokens and customers' data would travel in clear text"
            yield _warning("server.host", f"{message}; set [server.tls], or name your proxy in trusted_proxies")
        return
    yield from map(Finding, tls_faults(tls))
    yield from _private("server.tls.key", tls.key)


def _listeners(config: Config, unsound: Collection[str]) -> Iterator[Finding]:
    lock = None if "journal" in unsound else journal_lock(config)
    for table, host, port in (
        ("server", config.server.host, config.server.port),
        ("admin", config.admin.host, config.admin.port),
    ):
        if table in unsound:
            continue
        try:
            _try_to_bind(host, port)
        except socket.gaierror:
            yield _error(f"{table}.host", f"{host} is no name or address that this machine knows")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                ours = None if lock is None else own_port(lock, port)
                if ours is None:
                    what = f"{port} is in use, and whether by the gateway that runs cannot be seen from here"
                    yield _warning(f"{table}.port", what)
                elif not ours:
                    yield _error(f"{table}.port", f"{port} is in use by another program")
            elif error.errno == errno.EADDRNOTAVAIL:
                yield _error(f"{table}.host", f"{host} is not an address of this machine")
            else:
                yield _error(f"{table}.port", f"cannot listen on {host} port {port}: {error.strerror}")


def _try_to_bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


async def _plugins(plugins: list[Plugin]) -> list[Finding]:
    """What the plugins' own `check()` finds; all of them look at the same time."""
    found = await asyncio.gather(*(_plugin(plugin) for plugin in plugins if "check" in plugin.hooks))
    return [finding for findings in found for finding in findings]


async def _plugin(plugin: Plugin) -> list[Finding]:
    path = dotted("plugins", plugin.name)
    try:
        said = await plugin.caller.call(plugin.hooks["check"], timeout=_CHECK_TIMEOUT)
    except PluginFault as fault:
        text = describe(fault.cause, None)
        sentence = text.partition(": ")[2]
        return [_error(path, sentence if " " in sentence else text)]
    except (CallTimeout, Stuck) as fault:
        return [_error(path, f"its check gave {fault}")]
    finally:
        plugin.threads.close()
    sentences: Iterable[str] = [said] if isinstance(said, str) else said or ()
    return [_warning(path, str(sentence)) for sentence in sentences]
