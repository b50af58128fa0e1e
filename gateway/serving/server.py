"""Serving: a supervisor, and one worker with all of the gateway in it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from functools import partial
from typing import Any, Final, NoReturn

from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings

from gateway import log as logs
from gateway.config.convert import ConfigError
from gateway.config.tables import Config
from gateway.config.tls import tls_faults
from gateway.http.app import create_app
from gateway.journal.interface import JournalError, JournalFailed
from gateway.journal.lock import JournalLock
from gateway.plugin_host.lifecycle import StartFailed
from gateway.plugin_host.load import load_plugins
from gateway.service import Gateway
from gateway.serving.listeners import Address, check_free, listen, listening, resolve
from gateway.serving.supervisor import EXIT_JOURNAL, EXIT_START, HURRY, Supervisor

log = logging.getLogger("gateway.server")

STOP_SECONDS: Final = 9
COMMAND_SECONDS: Final = 30
"""How long a command that changes the journal without a gateway gets to make way for one that starts."""
CONNECTIONS: Final = 16_384
OTHER_FILES: Final = 256
HEADER_TIMEOUT_MS: Final = 5_000
HEADER_BYTES: Final = 32 * 1024
GARBAGE: Final = 20_000
"""New containers until a collection: at the default of 700 a tenth of the time would go into looking at events."""
_PR_SET_PDEATHSIG: Final = 1


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. A second signal ends everything at once. `ConfigError`
    where certificate and key cannot be served with."""
    if config.server.tls is not None and (problems := list(tls_faults(config.server.tls))):
        raise ConfigError(config.source, problems)
    logs.configure(config.log)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(JournalLock(config.journal.path).take(COMMAND_SECONDS))
            public = resolve(config.server.host, config.server.port)
            check_free(public)
            admin = stack.enter_context(listen(resolve(config.admin.host, config.admin.port)))
            supervisor = _supervisor(config, public)
        except (JournalError, OSError) as error:
            print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
            return 1
        with contextlib.suppress(RuntimeError, ValueError):
            multiprocessing.set_start_method("fork")
        signal.signal(HURRY, signal.SIG_IGN)  # until the worker listens to it
        try:
            supervisor.serve(target_loader=partial(load_worker, config, admin, os.getpid()), wrap_loader=False)
        except SystemExit as stop:
            return 1 if stop.code else 0
    return 0


def _supervisor(config: Config, public: Address) -> Supervisor:
    tls = config.server.tls
    return Supervisor(
        "gateway",
        address=public.host,
        port=public.port,
        interface=Interfaces.ASGI,
        loop=Loops.auto,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS, max_buffer_size=HEADER_BYTES),
        websockets=False,
        # backpressure counts connections, idle ones too: at the default a thousand idle ones block all others
        backlog=CONNECTIONS,
        backpressure=_connections(),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        ssl_cert=tls.certificate if tls else None,
        ssl_key=tls.key if tls else None,
        ssl_protocol_min=SSLProtocols.tls12,
        log_enabled=False,
    )


def _connections() -> int:
    """How many connections there are file descriptors for; without one left, accepting would spin."""
    wanted, limits = CONNECTIONS + OTHER_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (wanted if limit == resource.RLIM_INFINITY else limit for limit in limits)
    if soft < min(hard, wanted):
        soft = min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    return min(CONNECTIONS, max(soft - OTHER_FILES, soft // 2))


def load_worker(config: Config, admin: socket.socket, supervisor: int) -> Any:
    """The worker's ASGI application; runs in the worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor will say SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the supervisor's handler would swallow it until the loop runs
    _die_with(supervisor)

    @contextlib.asynccontextmanager
    async def around(gateway: Gateway) -> Any:
        asyncio.get_running_loop().add_signal_handler(HURRY, gateway.hurry)
        gc.collect()
        gc.freeze()  # what is here now stays: no collection need look at it again
        gc.set_threshold(GARBAGE)
        async with listening(config, admin, gateway):
            yield

    try:
        return create_app(
            config,
            load_plugins(config),
            around=around,
            on_failure=_journal_failed,
            on_start_failure=_give_up,
        )
    except Exception as error:
        _give_up(error)


def _give_up(error: Exception) -> NoReturn:
    """The gateway cannot start: one sentence, no traceback."""
    sentence = (
        str(error) if isinstance(error, JournalError | StartFailed | OSError) else f"{type(error).__name__}: {error}"
    )
    print(f"gateway: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_START)


def _journal_failed(failure: JournalFailed) -> None:
    log.critical("stopping: %s", failure)
    asyncio.get_running_loop().call_later(0.2, os._exit, EXIT_JOURNAL)  # those who wait get their 503 first


def _die_with(supervisor: int) -> None:
    """Without its supervisor the worker ends at once: nobody would start it again, nor stop it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before anything could be set up
        os._exit(1)

    def watch() -> None:
        while os.getppid() == supervisor:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
