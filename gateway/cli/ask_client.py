"""The ways in which `gateway ask` gets its answer."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlencode

import msgspec

from gateway.cli.failures import Failure
from gateway.config.tables import Config
from gateway.simulate import Client, Unreachable, query
from gateway.values.answer import Answer, Explanation
from gateway.values.question import Question

_STOP_SECONDS: Final = 5.0


def ask_as_webio(config: Config, question: Question, url: str | None) -> Explanation:
    """Over HTTP with a token, from the running gateway. The answer tells nothing about single fields."""
    try:
        with Client(config, question.organisation, url=url) as client:
            status, document = client.ask(question.fields, question.customer_uid, question.address)
    except Unreachable as error:
        raise Failure(f"{error}; is the gateway running?") from None
    if status == 200:
        return Explanation(status=status, values=document, fields={})
    return Explanation(status=status, values={}, fields={}, problem=document)


def ask_over_admin(config: Config, question: Question) -> Explanation:
    """Over the admin listener of the running gateway."""
    from gateway.cli.admin_client import request

    parameters = urlencode({"organisation": question.organisation, **_parameters(question)})
    return msgspec.convert(request(config, "GET", f"/api/values?{parameters}"), Explanation)


def ask_providers(config: Config, question: Question) -> Explanation:
    """From the providers themselves, started in this process for this one question."""
    from gateway.plugin_host.lifecycle import StartFailed

    try:
        return Explanation.of(asyncio.run(_ask_providers(config, question)))
    except StartFailed as error:
        raise Failure(str(error)) from None


async def _ask_providers(config: Config, question: Question) -> Answer:
    """`ConfigError` or `StartFailed` where there is no answer. Nothing is cached or recorded."""
    from gateway.plugin_host.lifecycle import Lifecycle
    from gateway.plugin_host.load import load_plugins
    from gateway.values.service import CustomValues

    plugins = [plugin for plugin in load_plugins(config) if "custom_values" in plugin.hooks]
    values = CustomValues(config, plugins)
    lifecycle = Lifecycle(config, plugins)
    await lifecycle.start()
    try:
        await values.start()
        return await values.answer(question.organisation, urlencode(_parameters(question)).encode())
    finally:
        await values.close()
        await lifecycle.stop(_STOP_SECONDS)


def _parameters(question: Question) -> dict[str, str]:
    return query(question.fields, question.customer_uid, question.address)
