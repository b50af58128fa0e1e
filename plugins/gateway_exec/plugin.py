"""The plugin: which program runs for an event, and what its exit code means for the delivery of the event."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gateway import Event, Reject, Secret, hookimpl
from gateway_exec.child import Children
from gateway_exec.command import Command

TAKEN: Final = 0
LATER: Final = 75
"""`EX_TEMPFAIL` of sysexits.h."""
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: Annotated[Command, msgspec.Meta(description="The program that runs for each event, and its arguments.")]
    directory: Annotated[
        Path | None, msgspec.Meta(description="The folder it runs in; default: that of the config file.")
    ] = None
    inherit: Annotated[
        tuple[str, ...], msgspec.Meta(description="Variables that it gets from the environment of the gateway.")
    ] = ("PATH", "LANG", "TZ")
    environment: Annotated[dict[str, str], msgspec.Meta(description="Further variables that it gets.")] = {}
    secret_environment: Annotated[
        dict[str, Secret], msgspec.Meta(description="Variables that it gets whose values are secrets.")
    ] = {}
    show_errors: Annotated[
        bool,
        msgspec.Meta(
            description="Whether the last line of its standard error is kept with a failed event. "
            "It may contain personal data, so it is never logged."
        ),
    ] = False

    def __post_init__(self) -> None:
        for key in ("environment", "secret_environment"):
            for name in getattr(self, key):
                if name.startswith("EVENT_"):
                    raise ValueError(f"{key}.{name}: is set by the plugin")
                if not name or "=" in name or "\0" in name:
                    raise ValueError(f"{key}: {name!r} is not the name of a variable")


class ExecFailed(Exception):
    """The event was not taken: it is delivered again. The message contains nothing that the program wrote."""

    loggable = True


class ExecSaid(Exception):
    """The same, with what the program wrote, which may contain personal data."""


class ExecPlugin:
    """Runs a program per event. At most `concurrency` of them run at the same time, each for at most `timeout`, both as
    the gateway has them for every plugin."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._children: Children | None = None

    @hookimpl
    async def startup(self) -> None:
        config = self._config
        directory = config.directory or config.command.directory
        self._children = Children(config.command.words, directory, self._environment(), listen=config.show_errors)

    @hookimpl
    async def shutdown(self) -> None:
        children, self._children = self._children, None
        if children is not None:
            await children.end()

    @hookimpl
    def check(self) -> None:
        """That the program can be run; it is not."""
        config = self._config
        faults = []
        if (fault := config.command.fault(self._environment()["PATH"])) is not None:
            faults.append(ValueError(f"command: {fault}"))
        if config.directory is not None and not config.directory.is_dir():
            faults.append(ValueError(f"directory: {config.directory} is not a directory"))
        if faults:
            raise ExceptionGroup("a program that cannot run", faults)

    @hookimpl
    async def on_event(self, event: Event) -> None:
        if self._children is None:
            raise ExecFailed("the plugin is not started")
        told = {"ID": event.id, "HOOK": event.hook, "ORGANISATION": event.organisation, "ATTEMPT": str(event.attempt)}
        try:
            code, said = await self._children.run(
                event.record() + b"\n", {f"EVENT_{name}": value for name, value in told.items()}
            )
        except OSError as error:
            raise ExecFailed(f"the program cannot be started: {error.strerror}") from None
        if code == TAKEN:
            return
        what = f"ended by {_signal(-code)}" if code < 0 else f"exit code {code}"
        if code not in (LATER, *range(-signal.NSIG, 0)):
            raise Reject(f"{what}: {said}" if said else what)
        raise ExecSaid(f"{what}: {said}") if said else ExecFailed(what)

    @hookimpl
    def forget(self) -> str:
        name = Path(self._config.command.words[0]).name
        return f"the plugin keeps nothing; what {name} made of the events is to be erased there"

    def _environment(self) -> dict[str, str]:
        config = self._config
        inherited = {name: os.environ[name] for name in config.inherit if name in os.environ}
        secrets = {name: secret.text() for name, secret in config.secret_environment.items()}
        return {"PATH": _PATH, **inherited, **config.environment, **secrets}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
