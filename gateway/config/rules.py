"""Faults of a config that the types of its fields do not show: rules between fields and inside of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from math import isfinite
from typing import Any

from gateway.config.convert import Problem, dotted, meant
from gateway.config.field_types import Secret, show
from gateway.config.tables import (
    AdminSettings,
    DeliverySettings,
    HookSettings,
    OrganisationSettings,
    PluginSettings,
    PluginTable,
    ServerSettings,
    ValuesSettings,
)
from gateway.decoding import hook_names, normalise
from gateway.events import HOOKS, UNKNOWN
from gateway.text import counted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PASSWORD_BYTES = 12
_KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}


def faults(
    tables: dict[str, Any], plugins: tuple[PluginTable, ...], unsure: Collection[str] | None, secrets: bool
) -> Iterator[Problem]:
    """The faults of tables whose fields each have the right type; a table that is None is left out. `unsure` are the
    plugins whose settings have a fault, None where no plugin is known. With `secrets=False` secrets are not read."""
    server, admin, delivery, values = (tables[name] for name in ("server", "admin", "delivery", "values"))
    if admin is not None:
        yield from _admin(admin, secrets)
    if server is not None and admin is not None and _same_socket(server, admin):
        yield Problem("admin.port", "is also the port of [server]; the two must differ")
    if delivery is not None:
        yield from _pace("delivery", delivery)
    if values is not None:
        enabled = [plugin.name for plugin in plugins if plugin.settings.enabled]
        yield from _values(values, enabled, unsure)
    for plugin in plugins:
        path = dotted("plugins", plugin.name)
        yield from _pace(path, plugin.settings)
        yield from _filter(path, plugin.settings, tables["organisations"])
        if plugin.settings.shards > 1 and tables["journal"] is not None and tables["journal"].url is None:
            message = (
                f"expected 1, found {plugin.settings.shards}: the journal is a file, which one gateway has to itself"
            )
            yield Problem(f"{path}.shards", f"{message}; leave it out, or name a database in journal.url")
        if plugin.settings.file is not None and plugin.settings.use is not None:
            yield Problem(
                f"{path}.use", "names an installed plugin, and `file` a plugin in a file; leave one of them out"
            )
    if tables["organisations"] is not None:
        yield from _organisations(tables["organisations"], secrets)
    if tables["hooks"] is not None:
        yield from _hooks(tables["hooks"])


def _values(values: ValuesSettings, enabled: list[str], unsure: Collection[str] | None) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for name, field in values.fields.items():
        path = dotted("values.fields", name)
        if not name:
            yield Problem(path, "is empty; expected a field's name")
        if unsure is not None and field.provider is not None and field.provider not in {*enabled, *unsure}:
            hint = meant(field.provider, enabled, "enabled plugins")
            yield Problem(f"{path}.provider", f"the plugin {show(field.provider)} is not enabled; {hint}")
        for index, alias in enumerate(field.aliases):
            if not alias:
                yield Problem(f"{path}.aliases[{index}]", "is empty; expected a field's name")
            elif alias in values.fields:
                yield Problem(f"{path}.aliases[{index}]", f"{show(alias)} is also the name of a field")
            elif taken.setdefault(alias, name) != name:
                yield Problem(f"{path}.aliases[{index}]", f"{show(alias)} is already an alias of {taken[alias]}")
        if field.default is None and field.default_on_error:
            yield Problem(f"{path}.default_on_error", "needs a `default` too")
        if field.default is not None and field.pattern is not None:
            try:
                if not field.pattern.matches(field.default):
                    yield Problem(f"{path}.default", "does not match the field's pattern")
            except ValueError as error:
                yield Problem(f"{path}.default", str(error))


def _admin(admin: AdminSettings, secrets: bool) -> Iterator[Problem]:
    viewer = admin.viewer_password
    if admin.password is None and viewer is not None:
        message = (
            'is missing, and without it everyone may change things, viewers too; write password = { file = "path" }'
        )
        yield Problem("admin.password", message)
    elif admin.password is None and not is_loopback(admin.host):
        message = 'is missing, and admin.host is not loopback; write password = { file = "path" }'
        yield Problem("admin.password", message)
    if not secrets:
        return
    if viewer is not None and viewer == admin.password:
        message = "is the same as admin.password, so viewers could change things; choose another one"
        yield Problem("admin.viewer_password", message)
    for path, password in _passwords(admin):
        if not is_loopback(admin.host) and len(password.value) < _PASSWORD_BYTES:
            yield Problem(path, f"{_short(password)}; off loopback it needs at least {_PASSWORD_BYTES}")


def weak_password(admin: AdminSettings) -> Iterator[Problem]:
    """Warnings: the passwords give access to the values of every customer, and to what happened to them."""
    if admin.password is None:
        message = "is missing: every user and every program of this machine can look up customers and discard events"
        yield Problem("admin.password", f'{message}; write password = {{ file = "path" }}')
    for path, password in _passwords(admin):
        if len(password.value) < _PASSWORD_BYTES:
            what = "customers' values" if password is admin.password else "what happened to customers"
            message = f"{_short(password)}; it protects {what}, so use at least {_PASSWORD_BYTES} bytes"
            yield Problem(path, message)


def _passwords(admin: AdminSettings) -> Iterator[tuple[str, Secret]]:
    for name in ("password", "viewer_password"):
        if (password := getattr(admin, name)) is not None:
            yield f"admin.{name}", password


def _short(password: Secret) -> str:
    return f"{password.source} has {counted(len(password.value), 'byte')}"


def proxies_allowed(server: ServerSettings) -> Iterator[Problem]:
    """Warnings: an allowed network that is a proxy's looks as if the proxy were let in, and is not."""
    for index, allowed in enumerate(server.allowed_networks):
        for proxy in server.trusted_proxies:
            if allowed.network.version == proxy.network.version and allowed.network.overlaps(proxy.network):
                what = f"has addresses of trusted_proxies ({proxy.network})"
                advice = "a request counts by the client's address that the proxy tells, never by the proxy's own"
                yield Problem(f"server.allowed_networks[{index}]", f"{what}; {advice}")
                break


def repeated_secrets(organisations: dict[str, OrganisationSettings]) -> Iterator[Problem]:
    """Warnings: a secret that is there twice looks like a rotation, and is none."""
    for name, organisation in organisations.items():
        for index, secret in enumerate(organisation.secrets):
            first = organisation.secrets.index(secret)
            if first < index:
                path = dotted("organisations", name)
                yield Problem(f"{path}.secrets[{index}]", f"is the same secret as secrets[{first}]; leave one out")


def _same_socket(server: ServerSettings, admin: AdminSettings) -> bool:
    hosts = {server.host, admin.host}
    every = not hosts.isdisjoint({"0.0.0.0", "::"})  # noqa: S104
    loopback = "localhost" in hosts and all(map(is_loopback, hosts))
    return server.port == admin.port and (len(hosts) == 1 or every or loopback)


def _pace(path: str, own: DeliverySettings | PluginSettings) -> Iterator[Problem]:
    if own.backoff is not None and own.backoff_max is not None and own.backoff_max < own.backoff:
        yield Problem(f"{path}.backoff_max", "is shorter than backoff")


def _filter(path: str, own: PluginSettings, organisations: Collection[str] | None) -> Iterator[Problem]:
    """The events that a plugin is to get. `organisations` is None where they are not known."""
    for key, what, names, known in (
        ("hooks", "hook", own.hooks, (*HOOKS, UNKNOWN)),
        ("organisations", "organisation", own.organisations, organisations),
    ):
        if names == ():
            yield Problem(f"{path}.{key}", f"is empty; expected at least one {what}, or no such key for every {what}")
        for index, name in enumerate(names or ()):
            if known is not None and name not in known:
                yield Problem(f"{path}.{key}[{index}]", f"unknown {what} {show(name)}; {meant(name, known)}")


def name_fault(path: str, name: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield Problem(path, "expected a name of at most 64 letters, digits, '.', '_' and '-'")


def _organisations(organisations: dict[str, OrganisationSettings | None], secrets: bool) -> Iterator[Problem]:
    if not organisations:
        yield Problem("organisations", "expected at least one, such as [organisations.acme]")
    seen: list[tuple[str, OrganisationSettings]] = []
    for name, organisation in organisations.items():
        path = dotted("organisations", name)
        yield from name_fault(path, name)
        if organisation is None:
            continue
        if not organisation.secrets:
            yield Problem(f"{path}.secrets", "expected at least one secret")
        if not organisation.algorithms:
            yield Problem(f"{path}.algorithms", "expected at least one algorithm")
        for claim, value in organisation.claims.items():
            yield from _claim(dotted(f"{path}.claims", claim), value)
        for index, secret in enumerate(organisation.secrets if secrets else ()):
            where = f"{path}.secrets[{index}]"
            yield from _secret(where, secret, organisation.algorithms)
            for other, settings in seen:
                if secret in settings.secrets and not _told_apart(organisation, settings):
                    yield Problem(where, f"is also a secret of organisations.{other}; a token could belong to either")
        seen.append((name, organisation))


def _secret(path: str, secret: Secret, algorithms: tuple[str, ...]) -> Iterator[Problem]:
    needed = max((_KEY_BYTES[algorithm] for algorithm in algorithms), default=32)
    if len(secret.value) < needed:
        longest = max(algorithms, key=_KEY_BYTES.__getitem__, default="a token")
        yield Problem(
            path, f"{secret.source} has {counted(len(secret.value), 'byte')}; {longest} needs at least {needed}"
        )
    elif b"-----BEGIN " in secret.value or b'"kty"' in secret.value or secret.value.startswith((b"ssh-", b"ecdsa-")):
        # PyJWT does not accept these as a shared secret, so it would refuse every token
        yield Problem(path, f"expected a shared secret, found a public or private key in {secret.source}")


def _claim(path: str, value: Any) -> Iterator[Problem]:
    """Claims are compared with JSON, which has no dates and no infinite numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _claim(dotted(path, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _claim(f"{path}[{index}]", inner)
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not isfinite(value)):
        yield Problem(
            path, f"expected a value that JSON has (a string, a finite number, true or false), found {show(value)}"
        )


def _told_apart(one: OrganisationSettings, other: OrganisationSettings) -> bool:
    """Whether no token can have the required claims of both."""
    shared = one.claims.keys() & other.claims.keys()
    return any(not same_value(one.claims[claim], other.claims[claim]) for claim in shared)


def _hooks(hooks: dict[str, HookSettings | None]) -> Iterator[Problem]:
    taken = hook_names({})
    for name, settings in hooks.items():
        path = dotted("hooks", name)
        if name not in HOOKS:
            yield Problem(path, f"unknown hook; {meant(name, HOOKS)}")
            continue
        for index, spelling in enumerate(settings.types if settings is not None else ()):
            where = f"{path}.types[{index}]"
            key = normalise(spelling)
            if not key:
                yield Problem(where, "is empty")
            elif taken.setdefault(key, name) != name:
                yield Problem(where, f"{show(spelling)} already means {taken[key]}")


def same_value(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal and of the same type: 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(one == other)


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
