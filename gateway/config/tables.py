"""The tables of `config.toml` as types, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.config.bounded_types import (
    BasePath,
    BodySize,
    Count,
    Endpoint,
    Filled,
    Host,
    JournalSize,
    Moment,
    NodeName,
    Pause,
    Port,
    Workers,
)
from gateway.config.database_url import DatabaseUrl
from gateway.config.field_types import Duration, Network, Secret, Size, Zone
from gateway.config.formats import Format, Pattern


def _says(meaning: str) -> msgspec.Meta:
    """What a key means, for the reference of the configuration."""
    return msgspec.Meta(description=meaning)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table: an unknown key is an error."""


class TlsSettings(Table, frozen=True, kw_only=True):
    certificate: Annotated[Path, _says("The certificate and its chain, as PEM.")]
    key: Annotated[Path, _says("Its private key, as PEM, without a pass phrase, in a file with mode 0600.")]


class NodeSettings(Table, frozen=True, kw_only=True):
    name: Annotated[
        NodeName, _says("What this gateway is called in status, logs and metrics; by default the host's name.")
    ] = msgspec.field(default_factory=NodeName.of_host)


class ServerSettings(Table, frozen=True, kw_only=True):
    host: Annotated[
        Host,
        _says("The address of the public listener. Keep it on loopback behind a proxy with TLS, or set [server.tls]."),
    ] = Host("127.0.0.1")
    port: Annotated[Port, _says("Its port.")] = 8080
    path: Annotated[BasePath, _says("The path below which all its requests are.")] = BasePath("/webio")
    max_body: Annotated[BodySize, _says("A larger body gets 413.")] = BodySize(2**20)
    body_timeout: Annotated[Pause, _says("A body that takes longer gets 408.")] = Pause(10)
    tls: Annotated[
        TlsSettings | None, _says("The certificate of the public listener; without it the listener has no TLS.")
    ] = None
    max_connections_per_address: Annotated[
        Count, _says("Connections of one client at the same time; trusted_proxies have no such limit.")
    ] = 256
    trusted_proxies: Annotated[
        tuple[Network, ...], _says("Proxies whose X-Forwarded-For tells the client's address.")
    ] = ()
    allowed_networks: Annotated[
        tuple[Network, ...], _says("Clients of other networks get 403; without any, every address is allowed.")
    ] = ()


class AdminSettings(Table, frozen=True, kw_only=True):
    host: Annotated[Host, _says("The address of the admin listener: dashboard, API, health, metrics.")] = Host(
        "127.0.0.1"
    )
    port: Annotated[Port, _says("Its port, another one than that of [server].")] = 8081
    password: Annotated[
        Secret | None,
        _says("With it people and programs see and change everything. Required where host is not loopback."),
    ] = None
    viewer_password: Annotated[
        Secret | None, _says("With it they only look: customers' data is masked, and nothing can be changed.")
    ] = None
    names: Annotated[tuple[Host, ...], _says("Host names in its URLs, beside IP addresses and localhost.")] = ()
    tls: Annotated[
        TlsSettings | None, _says("The certificate of the admin listener, which browsers of other machines need.")
    ] = None
    trusted_proxies: Annotated[
        tuple[Network, ...], _says("Proxies with TLS before it, through which browsers of other machines sign in.")
    ] = ()


class JournalSettings(Table, frozen=True, kw_only=True):
    path: Annotated[Path, _says("The journal's file, on a local disk: a network file system can lose events.")] = Path(
        "var/journal.db"
    )
    url: Annotated[
        DatabaseUrl | None,
        _says(
            "In place of `path`: a PostgreSQL database, which several gateways can share, such as"
            ' "postgresql://gateway@db.example.com/gateway". It needs the extra `postgresql`.'
        ),
    ] = None
    password: Annotated[Secret | None, _says("The password of the database's user.")] = None
    ca: Annotated[
        Path | None, _says("The certificates that sign the database's, as PEM; by default those of this machine.")
    ] = None
    require_standby: Annotated[
        bool, _says("Whether new events get 503 while the database has no synchronous standby.")
    ] = False
    retention: Annotated[Duration, _says("Events are deleted after this, once every plugin has them.")] = Duration(
        30 * 86400
    )
    max_size: Annotated[JournalSize, _says("Above it new events get 503, until there is room.")] = JournalSize(
        10 * 2**30
    )
    min_free: Annotated[Size, _says("Where the disk has less free space, new events get 503.")] = Size(256 * 2**20)
    dedupe_window: Annotated[Duration, _says("An equal body within this time is the same event.")] = Duration(86400)


class DeliverySettings(Table, frozen=True, kw_only=True):
    max_attempts: Annotated[
        Count,
        _says("Then an event is a dead letter. Attempts count only while the plugin takes other events."),
    ] = 12
    backoff: Annotated[Pause, _says("The pause after the first failure; doubled each time, with jitter.")] = Pause(1)
    backoff_max: Annotated[Pause, _says("The longest pause.")] = Pause(300)
    give_up_after: Annotated[
        Pause, _says("An event that fails while the plugin takes no other event is a dead letter after this.")
    ] = Pause(7 * 86400)
    timeout: Annotated[Pause, _says("A call that takes longer has failed.")] = Pause(30)
    startup_timeout: Annotated[Pause, _says("A plugin's startup that takes longer has failed, and is tried again.")] = (
        Pause(30)
    )
    concurrency: Annotated[Workers, _says("Conversations that are delivered to a plugin at the same time.")] = 4


class FieldSettings(Table, frozen=True, kw_only=True):
    """`[values.fields.NAME]`: which provider answers a field, and what its value must look like."""

    provider: Annotated[
        str | None, _says("The only plugin that is asked for it; by default the first that knows it.")
    ] = None
    aliases: Annotated[tuple[str, ...], _says("Further names that bots use.")] = ()
    default: Annotated[str | None, _says("The answer where no provider knows it; without one, that is a failure.")] = (
        None
    )
    default_on_error: Annotated[bool, _says("Whether `default` is also the answer where a provider failed.")] = False
    fallback: Annotated[bool, _says("Whether the next provider may answer where one fails.")] = False
    nullable: Annotated[bool, _says("Whether the answer may be null.")] = False
    format: Annotated[
        Format | None, _says("How a value is written: such as `{:.2f}` for numbers, `%d/%m/%Y` for dates.")
    ] = None
    pattern: Annotated[
        Pattern | None, _says("A regular expression for the whole value; any other value is a failure.")
    ] = None
    cache: Annotated[
        Duration | None, _says("How long it is kept in memory, per customer; by default `values.cache`.")
    ] = None
    required_key: Annotated[Literal["customer_uid"] | None, _says("The key without which it is never looked up.")] = (
        None
    )


class ValuesSettings(Table, frozen=True, kw_only=True):
    deadline: Annotated[Pause, _says("Without an answer by then a bot gets 504.")] = Pause(3)
    nullable: Annotated[tuple[str, ...], _says("Fields whose answer may be null.")] = ()
    cache: Annotated[Duration, _says("How long a value is kept in memory, per customer.")] = Duration(0)
    audit: Annotated[
        bool, _says("Whether a record of each request is kept: fields, providers and outcomes, without the values.")
    ] = False
    audit_retention: Annotated[Duration, _says("How long these records are kept.")] = Duration(90 * 86400)
    fields: Annotated[dict[str, FieldSettings], _says("Rules for single fields, by name.")] = {}


class LogSettings(Table, frozen=True, kw_only=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], _says("Lines of lower levels are left out.")] = (
        "info"
    )
    format: Annotated[Literal["console", "json"], _says("Lines for people, or JSON.")] = "console"
    plugin_messages: Annotated[
        bool, _says("Whether messages of plugins' exceptions are logged, too; they may have personal data.")
    ] = False


class TracingSettings(Table, frozen=True, kw_only=True):
    endpoint: Annotated[
        Endpoint | None,
        _says("Where traces are sent, by OTLP over HTTP; without it there are none. It needs the extra `otel`."),
    ] = None
    ratio: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="The share that is sent of the traces that begin here.")
    ] = 1.0


class OrganisationSettings(Table, frozen=True, kw_only=True):
    secrets: Annotated[
        tuple[Secret, ...],
        _says("Each verifies tokens, and has at least 32 bytes; two of them are a rotation."),
    ]
    algorithms: Annotated[
        tuple[Literal["HS256", "HS384", "HS512"], ...], _says("Algorithms of tokens that are accepted.")
    ] = ("HS256",)
    claims: Annotated[dict[str, Any], _says("Claims that every token must have, with exactly this value.")] = {}
    issued_after: Annotated[Moment | None, _says("Tokens that were made earlier are refused.")] = None
    leeway: Annotated[Duration, _says("How much the clocks of Webio and this machine may differ.")] = Duration(60)
    timezone: Annotated[Zone, _says("The time zone of Webio's dateCreated, and of times in formatted values.")] = Zone(
        "UTC"
    )


class HookSettings(Table, frozen=True, kw_only=True):
    """`[hooks.NAME]`: further spellings of `type`, and how long its events are kept (None: `journal.retention`)."""

    types: Annotated[tuple[str, ...], _says("Further spellings of `type` that mean this hook.")] = ()
    retention: Annotated[Duration | None, _says("How long its events are kept; by default `journal.retention`.")] = None


class PluginSettings(Table, frozen=True, kw_only=True):
    """The keys of a plugin's table that the gateway reads itself; the rest is for the plugin's `Config`."""

    enabled: Annotated[bool, _says("Whether the plugin is loaded; false keeps its settings.")] = True
    use: Annotated[
        Filled | None, _says("The installed plugin that this table is an instance of; by default that of its name.")
    ] = None
    file: Annotated[
        Path | None,
        _says("The Python file that the plugin is in. Only its owner may be able to write it."),
    ] = None
    hooks: Annotated[
        tuple[str, ...] | None, _says("The plugin gets events of these hooks only; `unknown` is one, too.")
    ] = None
    organisations: Annotated[tuple[str, ...] | None, _says("The plugin gets events of these organisations only.")] = (
        None
    )
    where: Annotated[
        str | None, _says("The plugin gets events of which this is true only: an expression in CEL, of at most 2 KiB.")
    ] = None
    start: Annotated[Literal["start", "end"], _says("Where a new plugin begins in the journal.")] = msgspec.field(
        default="end", name="from"
    )
    ordered: Annotated[bool, _says("Whether the events of a conversation are delivered in order.")] = True
    timeout: Annotated[Pause | None, _says("As in [delivery].")] = None
    values_timeout: Annotated[
        Pause | None, _says("The limit of its answer to a custom value request; by default `values.deadline`.")
    ] = None
    startup_timeout: Annotated[Pause | None, _says("As in [delivery].")] = None
    concurrency: Annotated[Workers | None, _says("As in [delivery].")] = None
    max_attempts: Annotated[Count | None, _says("As in [delivery].")] = None
    backoff: Annotated[Pause | None, _says("As in [delivery].")] = None
    backoff_max: Annotated[Pause | None, _says("As in [delivery].")] = None
    give_up_after: Annotated[Pause | None, _says("As in [delivery].")] = None
    shards: Annotated[
        Workers, _says("Into how many parts its conversations are divided, which gateways share. Needs `journal.url`.")
    ] = 1


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
    tracing: TracingSettings
    organisations: dict[str, OrganisationSettings]
    hooks: dict[str, HookSettings]
    plugins: tuple[PluginTable, ...]

    @property
    def directory(self) -> Path:
        return self.source.parent
