"""The tables of `config.toml` as types, with their defaults."""

from __future__ import annotations

import re
import socket
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import msgspec

from gateway.config.field_types import Duration, Network, Secret, Size, Zone, show
from gateway.config.formats import Format, Pattern

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Matching(str):
    """A string that matches a pattern as a whole."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    expected: ClassVar[str]

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not cls.pattern.fullmatch(value):
            raise ValueError(f"expected {cls.expected}, found {show(value)}")
        return cls(value)


class Host(_Matching):
    """An address to listen on, or a host name."""

    pattern = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)
    expected = 'an address or a host name such as "127.0.0.1"'


class BasePath(_Matching):
    """The path of the public listener below which all its requests are."""

    pattern = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
    expected = 'a path such as "/webio"'


class NodeName(_Matching):
    """What this gateway is called in status, logs and metrics."""

    pattern = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
    expected = "a name of at most 63 letters, digits, '.', '_' and '-', with a letter or a digit at both ends"

    @classmethod
    def of_host(cls) -> Self:
        """The host's name, with what a node's name cannot have replaced by `-`."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63].strip("._-")
        return cls(name or "gateway")


class BodySize(Size):
    """A limit for bodies: at most what one row of the journal can hold."""

    least, most, limits = 1, 2**29, 'larger than 0 and at most "512 MiB"'


class JournalSize(Size):
    """A limit for the journal."""

    least, limits = 1, 'larger than 0 and at most "1024 TiB"'


class Pause(Duration):
    """A duration longer than 0 s."""

    allows_zero = False


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table: an unknown key is an error."""


class TlsSettings(Table, frozen=True, kw_only=True):
    certificate: Path
    key: Path


class NodeSettings(Table, frozen=True, kw_only=True):
    name: NodeName = msgspec.field(default_factory=NodeName.of_host)


class ServerSettings(Table, frozen=True, kw_only=True):
    host: Host = Host("127.0.0.1")
    port: Port = 8080
    path: BasePath = BasePath("/webio")
    max_body: BodySize = BodySize(2**20)
    body_timeout: Pause = Pause(10)
    tls: TlsSettings | None = None
    max_connections_per_address: Count = 256
    trusted_proxies: tuple[Network, ...] = ()
    allowed_networks: tuple[Network, ...] = ()


class AdminSettings(Table, frozen=True, kw_only=True):
    host: Host = Host("127.0.0.1")
    port: Port = 8081
    password: Secret | None = None
    viewer_password: Secret | None = None
    names: tuple[Host, ...] = ()
    tls: TlsSettings | None = None
    trusted_proxies: tuple[Network, ...] = ()


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
    give_up_after: Pause = Pause(7 * 86400)
    timeout: Pause = Pause(30)
    startup_timeout: Pause = Pause(30)
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class FieldSettings(Table, frozen=True, kw_only=True):
    """`[values.fields.NAME]`: which provider answers a field, and what its value must look like."""

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
    plugin_messages: bool = False


class OrganisationSettings(Table, frozen=True, kw_only=True):
    secrets: tuple[Secret, ...]
    algorithms: tuple[Literal["HS256", "HS384", "HS512"], ...] = ("HS256",)
    claims: dict[str, Any] = {}
    issued_after: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    leeway: Duration = Duration(60)
    timezone: Zone = Zone("UTC")


class HookSettings(Table, frozen=True, kw_only=True):
    """`[hooks.NAME]`: further spellings of `type`, and how long its events are kept (None: `journal.retention`)."""

    types: tuple[str, ...] = ()
    retention: Duration | None = None


class PluginSettings(Table, frozen=True, kw_only=True):
    """The keys of a plugin's table that the gateway reads itself; the rest is for the plugin's `Config`."""

    enabled: bool = True
    use: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    file: Path | None = None
    hooks: tuple[str, ...] | None = None
    organisations: tuple[str, ...] | None = None
    start: Literal["start", "end"] = msgspec.field(default="end", name="from")
    ordered: bool = True
    timeout: Pause | None = None
    values_timeout: Pause | None = None
    startup_timeout: Pause | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    max_attempts: Count | None = None
    backoff: Pause | None = None
    backoff_max: Pause | None = None
    give_up_after: Pause | None = None


FILTERS: Final = ("hooks", "organisations")
"""The gateway's keys of a plugin's table that hold arrays. A table of this name is the plugin's own, such as
`[plugins.static_values.organisations.acme]`."""


def is_own_key(key: str, value: Any) -> bool:
    """Whether a key of a plugin's table, with this value, is the gateway's."""
    return key in PluginSettings.__struct_encode_fields__ and not (key in FILTERS and isinstance(value, dict))


class PluginTable(msgspec.Struct, frozen=True, kw_only=True):
    """One `[plugins.NAME]`: the gateway's settings, and in `table` the other keys, for the plugin's own `Config`."""

    name: str
    settings: PluginSettings
    table: dict[str, Any]

    @property
    def plugin(self) -> str:
        """The entry point's name: `use`, or the table's own name."""
        return self.settings.use or self.name


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration without a fault in its fields and between them. `gateway.plugin_host.load` checks the plugins."""

    source: Path
    node: NodeSettings
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
