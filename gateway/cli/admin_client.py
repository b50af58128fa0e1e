"""Requests of the commands to the running gateway, over its admin listener."""

from __future__ import annotations

import getpass
from typing import Any, Final

import httpx
import msgspec

from gateway.cli.failures import Failure
from gateway.config.tables import Config
from gateway.simulate import Unreachable, local_address, trust

TIMEOUT: Final = 60.0


def base_url(config: Config) -> str:
    """The address of the admin listener, as seen from this machine."""
    scheme = "https" if config.admin.tls else "http"
    return f"{scheme}://{local_address(config.admin.host)}:{config.admin.port}"


def request(config: Config, method: str, path: str, body: Any = None, seconds: float = TIMEOUT) -> Any:
    """The answer of the admin listener, decoded from JSON, within `seconds`. `Failure` unless its status is 2xx."""
    admin, base = config.admin, base_url(config)
    try:
        auth = (_user(), admin.password.value) if admin.password else None
    except ValueError as error:
        raise Failure(f"admin.password: {error}") from None
    content = None if body is None else msgspec.json.encode(body)
    headers = {"content-type": "application/json"}
    try:
        with httpx.Client(base_url=base, timeout=seconds, verify=trust(admin.tls), trust_env=False) as client:
            response = client.request(method, path, content=content, headers=headers, auth=auth)
    except Unreachable as error:
        raise Failure(str(error)) from None
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise Failure(f"the gateway runs, but its admin listener at {base} does not answer ({kind})") from error
    if response.is_success:
        return msgspec.json.decode(response.content)
    try:
        detail = msgspec.json.decode(response.content)["detail"]
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = "no details"
    raise Failure(f"the gateway answered {response.status_code}: {detail}")


def request_running(config: Config, method: str, path: str, body: Any = None) -> Any:
    """As `request`, for what needs a running gateway; `Failure` where none runs."""
    from gateway.journal import journal_lock

    if not journal_lock(config).is_held():
        if config.journal.url is not None:
            raise Failure("no gateway runs with this config on this machine; start it, or run this where it runs")
        raise Failure(f"no gateway runs with the journal {config.journal.path}; start it with `gateway run`")
    return request(config, method, path, body)


def _user() -> str:
    """Who runs this command, for the gateway's log. The gateway does not check it."""
    try:
        return getpass.getuser().replace(":", "")
    except (KeyError, OSError):  # a container's user may have no name
        return "gateway"
