"""The tables of `config.toml` as types, with their defaults."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec

from gateway.config.field_types import Duration, Network, Secret, Size, Zone, show
from gateway.config.formats import Format, Pattern

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_HOST = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
_LARGEST_BODY = 2**29  # what one row of the journal holds with room to spare


class Host(str):
    """An address to listen on, or a name of one."""

    __slots__ = ()

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not _HOST.fullmatch(value):
            raise ValueError(f'expected an address or a host name such as "127.0.0.1", found {show(value)}')
        return cls(value)


class BasePath(str):
    """Where on the public listener everything is."""

    __slots__ = ()

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not _PATH.fullmatch(value):
            raise ValueError(f'expected a path such as "/webio", found {show(value)}')
        return cls(value)


class BodySize(Size):
    """A size that a body may have."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        size = super().from_config(value, directory)
        if not 0 < size <= _LARGEST_BODY:
            raise ValueError('must be larger than 0 and at most "512 MiB"')
        return size


class JournalSize(Size):
    """A size that leaves a journal room for anything at all."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        size = super().from_config(value, directory)
        if size <= 0:
            raise ValueError(f"must be larger than 0, found {show(value)}")
        return size


class Pause(Duration):
    """A duration that is longer than nothing."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        pause = super().from_config(value, directory)
        if pause <= 0:
            raise ValueError("must be longer than 0s")
        return pause


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table: an unknown key is an error."""


class TlsSettings(Table, frozen=True, kw_only=True):
    certificate: Path
    key: Path


class ServerSettings(Table, frozen=True, kw_only=True):
    host: Host = Host("127.0.0.1")
    port: Port = 8080
    path: BasePath = BasePath("/webio")
    max_body: BodySize = BodySize(2**20)
    body_timeout: Pause = Pause(10)
    tls: TlsSettings | None = None
    trusted_proxies: tuple[Network, ...] = ()
    allowed_networks: tuple[Network, ...] = ()


class AdminSettings(Table, frozen=True, kw_only=True):
    host: Host = Host("127.0.0.1")
    port: Port = 8081
    password: Secret | None = None


class JournalSettings(Table, frozen=True, kw_only=True):
    path: Path = Path("var/journal.db")
    retention: Duration = Duration(30 * 86400)
    max_size: JournalSize = JournalSize(10 * 2**30)
    min_free: Size = Size(256 * 2**20)
    dedupe_window: Duration = Duration(86400)


class DeliverySettings(Table, frozen=True, kw_only=True):
    max_attempts: Count = 12
    backoff: Pause = Pause(1)
    backoff_max: Pause = Pause(300)
    timeout: Pause = Pause(30)
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class FieldSettings(Table, frozen=True, kw_only=True):
    """`[values.fields.NAME]`: who answers a field, and what its value must look like."""

    provider: str | None = None
    aliases: tuple[str, ...] = ()
    default: str | None = None
    default_on_error: bool = False
    fallback: bool = False
    nullable: bool = False
    format: Format | None = None
    pattern: Pattern | None = None
    cache: Duration | None = None
    required_key: Literal["customer_uid"] | None = None


class ValuesSettings(Table, frozen=True, kw_only=True):
    deadline: Pause = Pause(3)
    nullable: tuple[str, ...] = ()
    cache: Duration = Duration(0)
    audit: bool = False
    audit_retention: Duration = Duration(90 * 86400)
    fields: dict[str, FieldSettings] = {}


class LogSettings(Table, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class OrganisationSettings(Table, frozen=True, kw_only=True):
    secrets: tuple[Secret, ...]
    algorithms: tuple[Literal["HS256", "HS384", "HS512"], ...] = ("HS256",)
    claims: dict[str, Any] = {}
    issued_after: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    leeway: Duration = Duration(60)
    timezone: Zone = Zone("UTC")


class HookSettings(Table, frozen=True, kw_only=True):
    types: tuple[str, ...] = ()


class PluginSettings(Table, frozen=True, kw_only=True):
    """The keys of a plugin's table that are the gateway's own; the rest is the plugin's `Config`."""

    enabled: bool = True
    use: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    start: Literal["start", "end"] = msgspec.field(default="end", name="from")
    ordered: bool = True
    timeout: Pause | None = None
    values_timeout: Pause | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    max_attempts: Count | None = None
    backoff: Pause | None = None
    backoff_max: Pause | None = None


class PluginTable(msgspec.Struct, frozen=True, kw_only=True):
    """One `[plugins.NAME]`: the gateway's settings, and the rest as it stands, for the plugin's own `Config`."""

    name: str
    settings: PluginSettings
    table: dict[str, Any]

    @property
    def plugin(self) -> str:
        """The entry point's name: `use`, or the table's own name."""
        return self.settings.use or self.name


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration whose fields and own wiring are sound. Plugins are looked at by `gateway.plugin_host.load`."""

    source: Path
    server: ServerSettings
    admin: AdminSettings
    journal: JournalSettings
    delivery: DeliverySettings
    values: ValuesSettings
    log: LogSettings
    organisations: dict[str, OrganisationSettings]
    hooks: dict[str, HookSettings]
    plugins: tuple[PluginTable, ...]

    @property
    def directory(self) -> Path:
        return self.source.parent
