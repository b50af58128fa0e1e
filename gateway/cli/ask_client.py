"""The ways in which `gateway ask` gets its answer."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from gateway.cli.failures import Failure
from gateway.config.tables import Config
from gateway.simulate import Client, Unreachable, query
from gateway.values.explained import Explained, explained


class Question(NamedTuple):
    """Which fields, of whom."""

    fields: tuple[str, ...]
    customer: str | None
    address: str | None


def as_webio(config: Config, organisation: str, question: Question, url: str | None) -> Explained:
    """Over HTTP with a token, from the gateway that runs: nothing is known of the fields then."""
    try:
        with Client(config, organisation, url=url) as client:
            status, document = client.ask(*question)
    except Unreachable as error:
        raise Failure(f"{error}; does `gateway run` run?") from None
    if status == 200:
        return Explained(status=status, values=document, fields={})
    return Explained(status=status, values={}, fields={}, problem=document)


def over_admin(config: Config, organisation: str, question: Question) -> Explained:
    """Over the admin listener of the gateway that runs."""
    from gateway.cli.admin_client import NoAnswer, request

    try:
        found = request(config, "GET", f"/api/values?{urlencode({'organisation': organisation, **query(*question)})}")
    except NoAnswer as error:
        raise Failure(str(error)) from None
    return msgspec.convert(found, Explained)


def directly(config: Config, organisation: str, question: Question) -> Explained:
    """From the providers, started here for this one question."""
    from gateway.plugin_host.lifecycle import StartFailed
    from gateway.values.ask_providers import ask_directly

    try:
        return explained(asyncio.run(ask_directly(config, organisation, urlencode(query(*question)).encode())))
    except StartFailed as error:
        raise Failure(str(error)) from None
