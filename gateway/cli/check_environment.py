"""Checks what a configuration needs of the machine: files, folders and ports, and each plugin's own `check()`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gateway.cli.output import show_time
from gateway.config.certificates import tls_faults
from gateway.config.convert import Problem, dotted, each, placed
from gateway.config.rules import is_loopback
from gateway.config.tables import Config
from gateway.decoding import Decoder
from gateway.journal import check_database, check_journal, journal_lock, kept_as_unknown
from gateway.journal.interface import JournalError
from gateway.journal.lock import GATEWAY, LINK, JournalLock
from gateway.permissions import exposed
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.sources import config_of
from gateway.text import counted, describe
from gateway.unknown import advice, subject, types_of

_CHECK_TIMEOUT: Final = 15.0
_LISTENING: Final = "0A"  # the state in /proc/net/tcp
_SYSTEMD: Final = Path("/run/systemd/system")  # a folder where systemd runs the machine
_NETWORK_FILE_SYSTEMS: Final = re.compile(
    r"(fuse\.)?(9p|afs|beegfs|ceph|cifs|glusterfs|lustre|ncpfs|nfs4?|rclone|s3fs|smb3|smbfs|sshfs)"
)


class Finding(NamedTuple):
    """A fault of the environment, or a warning."""

    problem: Problem
    warning: bool = False


def examine(config: Config, plugins: list[Plugin], unsound: Collection[str] = ()) -> Iterator[Finding]:
    """Every fault found, without changing anything. `unsound` tables have a fault, and only defaults in the config."""
    yield from (Finding(problem, warning=True) for problem in exposed(config))
    if "journal" not in unsound:
        yield from _journal(config) if config.journal.url is None else _database(config)
    if not {"server", "admin"} & set(unsound):
        yield from _tls(config)
    yield from _listeners(config, unsound)
    yield from asyncio.run(_plugins(plugins))


def _error(path: str, message: str) -> Finding:
    return Finding(Problem(path, message))


def _warning(path: str, message: str) -> Finding:
    return Finding(Problem(path, message), warning=True)


def _journal(config: Config) -> Iterator[Finding]:
    path = "journal.path"
    journal = config.journal.path
    folder = journal.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        yield _error(path, f"{folder} is not a folder")
        return
    if journal.is_symlink():
        yield _error(path, f"the journal {journal} cannot be opened: {LINK}")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield _error(path, f"the folder {folder} cannot be written to by this user")
    elif journal.exists() and not os.access(journal, os.R_OK | os.W_OK):
        yield _error(path, f"{journal} cannot be read and written by this user")
    elif not journal_lock(config).is_held():  # a journal that another process writes to is not opened
        try:
            if (warning := check_journal(config)) is not None:
                yield _warning(path, warning)
        except JournalError as error:
            yield _error(path, str(error))
    yield from _unknown(config)
    kind = _file_system(folder)
    if kind is not None and _NETWORK_FILE_SYSTEMS.fullmatch(kind):
        yield _error(path, f"{folder} is on a network file system ({kind}), where a journal can lose events")
    free = shutil.disk_usage(folder).free
    used = journal.stat().st_size if journal.exists() else 0
    if free < config.journal.min_free:
        what = f"{_mib(free)} free at {folder} is less than the {_mib(config.journal.min_free)} of min_free"
        yield _error("journal.min_free", f"{what}: new events would get 503")
    elif free + used < config.journal.max_size:
        what = f"the journal may grow to {_mib(config.journal.max_size)}, but its disk has only {_mib(free)} free"
        yield _warning("journal.max_size", f"{what}; new events get 503 below min_free")


def _database(config: Config) -> Iterator[Finding]:
    try:
        found = check_database(config)
    except JournalError as error:  # its driver is missing
        yield _error("journal.url", str(error))
        return
    yield from (_error("journal.url", sentence) for sentence in found.errors)
    yield from (_warning("journal.url", sentence) for sentence in found.warnings)
    if not found.errors:
        yield from _unknown(config)


def _unknown(config: Config) -> Iterator[Finding]:
    """Names of kept events that no hook has, and those that the config has added since."""
    try:
        kept = kept_as_unknown(config, running=journal_lock(config).is_held())
    except JournalError:
        return  # reported by the check of the journal itself
    decoder, types = Decoder(config), types_of(config)
    for name, number, first, last in kept:
        hook = None if name is None else decoder.hook_of(name)
        since = f"(first {show_time(first)}, last {show_time(last)} UTC)"
        what = f"{subject(name)}: {counted(number, 'event')} kept as unknown {since}"
        if hook is None:
            yield _warning("hooks", f"{what}; {advice(name, types)}")
        else:
            then = "restart the gateway where it runs, then deliver them with `gateway replay --unknown`"
            yield _warning(f"hooks.{hook}.types", f"{what}; the config has a hook for it now: {then}")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _file_system(folder: Path) -> str | None:
    """The type of a folder's file system; None where it cannot be found out."""
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
    server, admin = config.server, config.admin
    if not (is_loopback(server.host) or server.tls or server.trusted_proxies):
        message = "is not loopback, and there is no TLS: tokens and customers' data are sent unencrypted"
        yield _warning("server.host", f"{message}; set [server.tls], or add your proxy to trusted_proxies")
    if not (is_loopback(admin.host) or admin.tls or admin.trusted_proxies):
        message = "is not loopback, and there is no TLS: browsers of other machines cannot sign in, and programs send"
        yield _warning("admin.host", f"{message} the password unencrypted; set [admin.tls], or admin.trusted_proxies")
    yield from map(Finding, tls_faults(server, admin))


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
            yield _error(f"{table}.host", f"{host} is not an address or a known host name")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                ours = None if lock is None else _own_port(lock, port)
                if ours is None:
                    what = f"{port} is in use; this user cannot see whether by the running gateway"
                    yield _warning(f"{table}.port", what)
                elif not ours and _SYSTEMD.is_dir() and _is_of_root(port):
                    what = f"{port} is in use by a process of root; that is well if it is systemd, for a socket unit"
                    yield _warning(f"{table}.port", f"{what} of this gateway, and a fault if it is another program")
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


def _own_port(lock: JournalLock, port: int) -> bool | None:
    """Whether only the gateway that holds the lock listens on a port; None where that cannot be found out. Linux tells
    it about processes of the same user."""
    holder = lock.holder()
    if holder is None or holder.name != GATEWAY:
        return False
    try:
        files = set(_open_files(holder.process))
        sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    except OSError:
        return None
    if str(lock.path.resolve()) not in files or not sockets:  # in another container
        return None
    ours = sockets & files
    return None if ours and ours != sockets else bool(ours)


def _open_files(process: str) -> Iterator[str]:
    """The files and sockets that a process and its children (the worker) have open."""
    children = Path("/proc", process, "task", process, "children").read_text(encoding="ascii").split()
    for member in (process, *children):
        for descriptor in Path("/proc", member, "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(descriptor.readlink())


def _is_of_root(port: int) -> bool:
    """Whether only root's processes have opened the sockets that listen on a port."""
    try:
        return {fields[7] for fields in _listening_rows(port)} == {"0"}
    except OSError:
        return False


def _listening(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on a port."""
    return (fields[9] for fields in _listening_rows(port))


def _listening_rows(port: int) -> Iterator[list[str]]:
    """What Linux tells of the sockets that listen on a port: its user is field 7, its inode field 9."""
    for table in Path("/proc/net").glob("tcp*"):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields


async def _plugins(plugins: list[Plugin]) -> list[Finding]:
    """What the plugins' `check()` find. They run at the same time."""
    found = await asyncio.gather(*(_plugin(plugin) for plugin in plugins if "check" in plugin.hooks))
    return [finding for findings in found for finding in findings]


async def _plugin(plugin: Plugin) -> list[Finding]:
    path, settings = dotted("plugins", plugin.name), config_of(type(plugin.instance))
    try:
        said = await plugin.caller.call(plugin.hooks["check"], timeout=_CHECK_TIMEOUT)
    except PluginFault as fault:
        causes = each(fault.cause) if isinstance(fault.cause, Exception) else [fault.cause]
        return [Finding(placed(path, _sentence(cause), settings)) for cause in causes]
    except (CallTimeout, Stuck) as fault:
        return [_error(path, f"its check failed: {fault}")]
    finally:
        plugin.close()
    sentences: Iterable[str] = [said] if isinstance(said, str) else said or ()
    return [Finding(placed(path, str(sentence), settings), warning=True) for sentence in sentences]


def _sentence(error: BaseException) -> str:
    """The error's message, with its type where the message is not a sentence."""
    text = describe(error, None)
    sentence = text.partition(": ")[2]
    return sentence if " " in sentence else text
