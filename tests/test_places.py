"""The place of an exception: where in the plugin's own code it came from."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from gateway.plugin_host.place import place_of


def _module(name: str, file: str, source: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(names)
    exec(compile(source, file, "exec"), module.__dict__)
    return module


def _raised(function: Any, *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


CLIENT = """
def send(text):
    return json.loads(text)
"""
CRM = """

def on_event(text):
    return client.send(text)
"""


def test_it_is_the_last_frame_of_the_plugin_s_own_code() -> None:
    """Not a library's, and not that of another package whose name begins alike."""
    client = _module("crm.client", "/opt/crm/client.py", CLIENT, json=json)
    plugin = _module("crm", "/opt/crm/__init__.py", CRM, client=client)
    error = _raised(plugin.on_event, "{")
    assert place_of(error, "crm") == "client.py:3"
    assert (
        place_of(_raised(_module("crm_two", "/opt/two.py", CRM, client=client).on_event, "{"), "crm_two") == "two.py:4"
    )


def test_without_a_frame_of_the_plugin_it_is_the_last() -> None:
    """An exception that was never raised has no place."""
    error = _raised(json.loads, "{")
    assert str(place_of(error, "crm")).startswith("decoder.py:")
    assert place_of(ValueError("no"), "crm") is None
