"""The worker: the process with the whole gateway in it. The supervisor starts it, and starts another when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gateway import log as logs
from gateway.config.certificates import tls_faults
from gateway.config.convert import ConfigError
from gateway.config.tables import Config, JournalSettings
from gateway.http.access import Access
from gateway.http.admin import create_admin
from gateway.http.app import create_app
from gateway.journal import journal_lock
from gateway.journal.interface import JournalError, JournalFailed, JournalRefused
from gateway.permissions import exposed
from gateway.preflight import Examined, sound_config
from gateway.reload import Reloader
from gateway.service import Gateway
from gateway.serving.listener import Listener, bracketed, connection_limits, obtain
from gateway.serving.supervisor import (
    EXIT_CONFIG,
    EXIT_JOURNAL,
    EXIT_START,
    JSON_LOG,
    PONG,
    READY,
    TEXT_LOG,
    Options,
)

log = logging.getLogger("gateway.server")

COMMAND_SECONDS: Final = 30
"""How long a start waits for a command that has locked the journal; after that it fails."""
BEGUN: Final = 0.01
"""Seconds for the first startups of plugins to begin: they then go on while the applications are made."""
GARBAGE: Final = 20_000
"""New objects between two garbage collections. At Python's default of 700, collections took a tenth of the time."""
_PR_SET_PDEATHSIG: Final = 1


def main(options: Options, config: str, supervisor: int, control: int, *listening: int) -> int:
    """Serve until SIGTERM; returns the exit code. `control` is the socket to the supervisor; `listening` are the public
    and the admin listener's sockets, where the service manager or an earlier worker has opened them, and else -1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor passes Ctrl-C on as SIGTERM
    _die_with(supervisor)
    for descriptor in (control, *listening):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    try:
        examined = sound_config(Path(config))
        if problems := list(tls_faults(examined.config.server, examined.config.admin)):
            raise ConfigError(examined.config.source, problems)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    try:
        logs.configure(examined.config.log, examined.config.node.name)
        with journal_lock(examined.config, process=supervisor).take(COMMAND_SECONDS):
            sockets = _open(examined.config, control, listening)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(serve(examined, options, control, *sockets))
    except Exception as error:
        expected = isinstance(error, JournalError | OSError)
        print(f"gateway: {error if expected else f'{type(error).__name__}: {error}'}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG if isinstance(error, JournalRefused) else EXIT_START
    return 0


async def serve(
    examined: Examined, options: Options, control: int, public: socket.socket, admin: socket.socket
) -> None:
    """Start the gateway, serve on both listeners, and after SIGTERM drain and stop."""
    loop, stop, config = asyncio.get_running_loop(), asyncio.Event(), examined.config
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    loop.add_reader(control, _hear, control)
    began = time.monotonic()
    log.info("%s", starting(examined))
    for warning in (*examined.warnings, *exposed(config)):
        log.warning("config: %s: %s", warning.path, warning.message)
    gateway = Gateway(config, examined.plugins, copy_before_upgrade=options.copy)
    reloader = Reloader(gateway)
    if not await _start(gateway, stop):
        return
    await asyncio.sleep(BEGUN)
    limits = connection_limits()
    with _without("pydantic"), _without("opentelemetry"):
        webhooks = Listener(
            create_app(gateway),
            limits[0],
            gateway.metrics,
            per_address=config.server.max_connections_per_address,
            proxies=config.server.trusted_proxies,
            take=gateway.receiver.take,
        )
        access = Access(config.admin, time.monotonic)
        application = create_admin(gateway, reloader, access)
        operators = Listener(application, limits[1], gateway.metrics, prefix="admin listener: ")
    gc.collect()
    gc.freeze()  # these objects live as long as the process: collections can skip them
    gc.set_threshold(GARBAGE)
    loop.add_signal_handler(signal.SIGHUP, reloader.begin, lambda: os.write(control, READY))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
    await webhooks.start(public, config.server.tls)
    await operators.start(admin, config.admin.tls)
    scheme, path = "https" if config.server.tls else "http", config.server.path
    own = "https" if config.admin.tls else "http"
    _say("webhooks", f"{scheme}://{bracketed(config.server.host)}:{public.getsockname()[1]}{path}", options.json)
    dashboard = f"{own}://{bracketed(config.admin.host)}:{admin.getsockname()[1]}"
    _say("admin", f"{dashboard}/", options.json)
    if sys.stdout.isatty() and not options.json and access.needs_password:  # for the person who has just started it
        _say("sign in once, within 5 minutes,", dashboard + access.sign_in_link(), False)
    os.write(control, READY)
    behind = ", ".join(plugin.name for plugin in examined.plugins if not plugin.startup.done.is_set())
    log.info("ready after %.1f s%s", time.monotonic() - began, f"; still starting: {behind}" if behind else "")
    await stop.wait()
    log.info("draining: no new requests; those that have begun are answered, and the plugins finish what they have")
    drained = time.monotonic()
    gateway.drain()
    await asyncio.gather(webhooks.drain(), operators.drain())
    await gateway.stop()
    log.info("stopped after %.1f s", time.monotonic() - drained)


async def _start(gateway: Gateway, stop: asyncio.Event) -> bool:
    """Start it, which may have to wait for its journal; false where it is to stop before that."""
    begun, asked = asyncio.create_task(gateway.start(_journal_failed)), asyncio.create_task(stop.wait())
    await asyncio.wait((begun, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if begun.done():
        await begun
        return True
    log.info("stopping before it was ready")
    begun.cancel()
    await asyncio.wait((begun,))
    return False


def starting(examined: Examined) -> str:
    """The first line of the log: what starts, with which config, journal and plugins."""
    plugins = ", ".join(
        f"{plugin.name} ({f'{plugin.distribution} {plugin.version}'.strip()})" for plugin in examined.plugins
    )
    return (
        f"starting: version {version('webio-gateway')}, process {os.getpid()}, config {examined.config.source},"
        f" journal {_journal_shown(examined.config.journal)}, plugins: {plugins or 'none'}"
    )


def _journal_shown(settings: JournalSettings) -> str:
    if settings.url is not None:
        return settings.url.shown
    try:
        return f"{settings.path} ({settings.path.stat().st_size / 2**20:.1f} MiB)"
    except OSError:
        return f"{settings.path} (new)"


@contextlib.contextmanager
def _without(library: str) -> Iterator[None]:
    """Hide a library that is not imported yet. Litestar imports these where they are installed: pydantic, which takes
    9 MB and 0.1 s, and a part of OpenTelemetry. The gateway does not use them there."""
    hidden = library not in sys.modules
    if hidden:
        sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[library]


def _open(config: Config, control: int, listening: Sequence[int]) -> list[socket.socket]:
    """Open the sockets that are not open yet, and send both to the supervisor, for the next worker."""
    public, admin = listening
    sockets = [obtain(public, config.server), obtain(admin, config.admin)]
    with socket.socket(fileno=os.dup(control)) as supervisor:
        log_format = JSON_LOG if config.log.format == "json" else TEXT_LOG
        socket.send_fds(supervisor, [log_format], [one.fileno() for one in sockets])
    return sockets


def _hear(control: int) -> None:
    """Answer the supervisor's questions whether the loop runs. At the end of file the supervisor has died."""
    try:
        if os.read(control, 4096):
            os.write(control, PONG)
            return
    except OSError:  # it died with a word unread
        pass
    os._exit(1)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.Loop
    return None


def _journal_failed(failure: JournalFailed) -> None:
    log.critical("stopping: %s", failure)
    asyncio.get_running_loop().call_later(0.2, os._exit, EXIT_JOURNAL)  # first, the waiting requests are answered 503


def _say(listener: str, url: str, as_json: bool) -> None:
    line = json.dumps({"listener": listener, "url": url}) if as_json else f"gateway: {listener} at {url}"
    print(line, flush=True)  # noqa: T201


def _die_with(supervisor: int) -> None:
    """End the worker as soon as its supervisor dies: otherwise it would run without a process that can stop it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # the supervisor died before the call above
        os._exit(1)


if __name__ == "__main__":
    given, (path, *numbers) = Options.read(sys.argv[1:])
    sys.exit(main(given, path, *map(int, numbers)))
