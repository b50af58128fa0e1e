"""The plugin: takes the gateway's notices, and has each target told of them."""

from __future__ import annotations

import importlib.util
import socket
from typing import Annotated, Final, Literal

import msgspec
from gateway_connections import quieten

from gateway import Context, Duration, Notice, hookimpl
from gateway_notify.outbox import Outbox
from gateway_notify.targets import Chat, Email, Mail, Table, Webhook

KINDS: Final = ("dead-letters", "unknown-type", "plugin", "journal")


class Settings(Table, frozen=True, kw_only=True):
    webhook: Annotated[Webhook | None, msgspec.Meta(description="A chat's webhook that messages are posted to.")] = None
    email: Annotated[Email | None, msgspec.Meta(description="A mail server that messages are sent through.")] = None
    kinds: Annotated[
        tuple[Literal["dead-letters", "unknown-type", "plugin", "journal"], ...],
        msgspec.Meta(description="What messages are about; default: all of it."),
    ] = KINDS
    gather: Annotated[Duration, msgspec.Meta(description="How long a message waits for more of the same moment.")] = (
        Duration(5)
    )
    every: Annotated[Duration, msgspec.Meta(description="The least time between two messages to one target.")] = (
        Duration(300)
    )
    name: Annotated[
        str | None, msgspec.Meta(description="What messages call this gateway; default: the host's name.")
    ] = None

    def __post_init__(self) -> None:
        if self.webhook is None and self.email is None:
            raise ValueError("webhook: expected a webhook or an email, or both")
        if self.email is not None and importlib.util.find_spec("aiosmtplib") is None:
            raise ValueError("email: needs a library: pip install 'webio-gateway[notify]'")


class NotifyPlugin:
    """Tells people of dead letters, unknown types, plugins that are not healthy and a journal that refuses events, and
    of the end of each."""

    Config = Settings
    contract = (1, 1)

    def __init__(self, config: Settings) -> None:
        quieten()
        self._config = config
        self._outboxes: list[Outbox] = []

    @hookimpl
    async def startup(self, context: Context) -> None:
        config = self._config
        for name, target in self._targets().items():
            outbox = Outbox(name, target.send, config.gather, config.every, context.log)
            self._outboxes.append(outbox)
            context.spawn(outbox.run(), name)

    @hookimpl
    async def shutdown(self) -> None:
        self._outboxes = []

    @hookimpl
    async def check(self) -> None:
        """Reach each target, and send nothing."""
        faults = []
        for target in self._targets().values():
            try:
                await target.check()
            except ValueError as error:
                faults.append(error)
        if faults:
            raise ExceptionGroup("targets that cannot be reached", faults)

    @hookimpl
    async def notice(self, notice: Notice) -> None:
        if notice.kind in self._config.kinds:
            for outbox in self._outboxes:
                outbox.put(notice)

    def _targets(self) -> dict[str, Chat | Mail]:
        config, found = self._config, dict[str, Chat | Mail]()
        name = config.name or socket.gethostname()
        if config.webhook is not None:
            found["webhook"] = Chat(config.webhook, name)
        if config.email is not None:
            found["email"] = Mail(config.email, name)
        return found
