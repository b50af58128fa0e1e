"""What the operator's commands ask of the running gateway, over its admin listener."""

from __future__ import annotations

from typing import Any, Final

import httpx
import msgspec

from gateway.config.tables import Config
from gateway.simulate import local_address

TIMEOUT: Final = 60.0


class NoAnswer(Exception):
    """The admin listener did not do what it was asked; a sentence for the operator."""


def request(config: Config, method: str, path: str, body: Any = None) -> Any:
    """What the admin listener answers, from JSON; `NoAnswer` where that is no success."""
    admin = config.admin
    base = f"http://{local_address(admin.host)}:{admin.port}"
    try:
        auth = ("gateway", admin.password.value) if admin.password else None
    except ValueError as error:
        raise NoAnswer(f"admin.password: {error}") from None
    try:
        with httpx.Client(base_url=base, timeout=TIMEOUT, trust_env=False) as client:
            response = client.request(
                method,
                path,
                content=None if body is None else msgspec.json.encode(body),
                headers={"content-type": "application/json"},
                auth=auth,
            )
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise NoAnswer(f"the gateway runs, but its admin listener at {base} does not answer ({kind})") from error
    if response.is_success:
        return msgspec.json.decode(response.content)
    try:
        detail = msgspec.json.decode(response.content)["detail"]
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = "no details"
    raise NoAnswer(f"the gateway answered {response.status_code}: {detail}")
