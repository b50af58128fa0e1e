"""Connections to the database: to a host that takes writes, verified, and given up when the network is gone."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from gateway.journal.interface import JournalRefused
from gateway.journal.postgresql.failures import translated
from gateway.journal.postgresql.hosts import newest

if TYPE_CHECKING:
    from gateway.config.tables import Config

CONNECT_SECONDS: Final = 5.0
"""One host has this long to answer."""
_STANDBY_WAIT: Final = "SyncRepWaitForLSN"
"""The function of the server that waits for the standby; it warns where it gives up."""
_TIMELINE: Final = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer"
_SESSION: Final = {
    "TimeZone": "UTC",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "60000",
    "client_min_messages": "warning",
    "jit": "off",
    "standard_conforming_strings": "on",
    "gateway.direct": "yes",
}
_BY_INDEX: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""The writer looks rows up one by one, also before the database knows how large the tables are."""
_TO_READ: Final = {"default_transaction_read_only": "on", "plan_cache_mode": "force_custom_plan"}
"""Plans of searches fit the values that are looked for: how often one occurs decides which index is the better one."""
_TCP: Final = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 5000}
"""A network that is gone ends a connection after 5 s."""


class DatabaseConnection(asyncpg.Connection):  # type: ignore[misc,type-arg,unused-ignore]
    """A connection that notices when a commit did not wait for the standby: `local_only`."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.local_only = False
        self.timeline = 0
        """Grows with each promotion of a standby."""
        self.add_log_listener(self._heard)
        link = self._transport.get_extra_info("socket")
        if link is not None and link.family in (socket.AF_INET, socket.AF_INET6):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _TCP.items():
                with contextlib.suppress(AttributeError, OSError):  # not on every system
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _heard(self, connection: Any, message: Any) -> None:
        # Its text may be in another language. Other warnings, such as of a queue that fills, do not concern the commit.
        if message.severity_en == "WARNING" and message.server_source_function in (_STANDBY_WAIT, None):
            self.local_only = True


async def connect(config: Config, purpose: str, *, by_index: bool = False, to_read: bool = False) -> DatabaseConnection:
    """A connection to the host of `journal.url` that takes writes; where several do, to the one that was promoted last.
    `purpose` is a word for `pg_stat_activity`. `JournalRefused` where an operator must change something, `DatabaseLost`
    where a later try may succeed."""
    settings = config.journal
    if settings.url is None:
        raise JournalRefused("journal.url is missing")
    name = f"webio-gateway {config.node.name} {purpose}"[:63]
    session = {**_SESSION, **(_BY_INDEX if by_index else {}), **(_TO_READ if to_read else {}), "application_name": name}
    options: dict[str, Any] = {"server_settings": session}
    if settings.password is not None:
        options["password"] = settings.password.text()
    if (context := _tls(config)) is not None:
        options["ssl"] = context
    if len(settings.url.each) == 1:
        return await _connect(settings.url, options, to_read)
    return await newest([_connect(one, options, to_read, several=True) for one in settings.url.each])


async def _connect(url: str, options: dict[str, Any], to_read: bool, *, several: bool = False) -> DatabaseConnection:
    with translated():
        made: DatabaseConnection = await asyncpg.connect(
            url,
            connection_class=DatabaseConnection,
            timeout=CONNECT_SECONDS,
            target_session_attrs="primary" if to_read else "read-write",
            **options,
        )
        try:
            if several or not to_read:
                made.timeline = await made.fetchval(_TIMELINE, timeout=CONNECT_SECONDS)
        except BaseException:
            made.terminate()
            raise
    return made


def _tls(config: Config) -> ssl.SSLContext | None:
    """How the database's certificate is verified; None where the driver does what `sslmode` says."""
    settings = config.journal
    if settings.url is None:
        return None
    mode = settings.url.option("sslmode")
    local = mode is None and settings.url.is_local and settings.ca is None
    verifies = not local and (mode is None or mode.startswith("verify"))
    try:
        context = (
            ssl.create_default_context(cafile=settings.ca) if verifies else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
    except (OSError, ssl.SSLError) as error:
        raise JournalRefused(f"journal.ca: {settings.ca} cannot be used as PEM certificates ({error})") from error
    certificate, key = settings.url.option("sslcert"), settings.url.option("sslkey")
    if certificate is not None and mode != "disable":
        try:
            context.load_cert_chain(certificate, key, password="")  # never asks on a terminal
        except (OSError, ssl.SSLError) as error:
            files = certificate if key is None else f"{certificate} and sslkey {key}"
            raise JournalRefused(
                f"journal.url: sslcert {files} cannot be used as a PEM certificate with its key ({error})"
            ) from error
    if not verifies:
        return None  # the driver does what `sslmode` says
    context.check_hostname = mode != "verify-ca"
    return context
