"""Query strings of the API as filters. Each fault is answered 400 and names the parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException

from gateway.config.convert import meant
from gateway.config.field_types import show
from gateway.config.moments import moment_of
from gateway.config.tables import Config
from gateway.decoding import hook_names, normalise
from gateway.events import HOOKS, UNKNOWN
from gateway.journal.contents import wanted_words
from gateway.journal.interface import STATES, Filter
from gateway.journal.search import Search
from gateway.selector import address_key

FILTERS: Final = (
    *("hook", "organisation", "conversation", "customer", "address", "text", "plugin", "state", "since", "until"),
)
LIMIT: Final = 50
MOST: Final = 500
_LONGEST: Final = 1000
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Invalid(HTTPException):
    """A parameter or a field of a body is not valid; `extra` names it."""

    status_code = 400

    def __init__(self, field: str, why: str) -> None:
        super().__init__(detail=f"{field}: {why}", extra={"field": field})


def parameters(request: ASGIConnection[Any, Any, Any, Any], known: Collection[str]) -> dict[str, str]:
    """The query parameters; empty ones left out. `Invalid` for one that is not known, twice there or too long: a
    misspelt filter must not match everything."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise Invalid(name[:40], f"unknown parameter; use {', '.join(known)}")
        if name in found:
            raise Invalid(name, "expected once, found twice")
        if len(value) > _LONGEST:
            raise Invalid(name, f"expected at most {_LONGEST} characters, found {len(value)}")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def filter_of(given: dict[str, str]) -> Filter:
    """The filter among these parameters."""
    readers: dict[str, Callable[[str, str], Any]] = {
        "hook": hook,
        "address": _address,
        "text": _words,
        "state": _state,
        "since": moment,
        "until": moment,
    }
    which = Filter(**{name: readers.get(name, _plain)(name, given[name]) for name in FILTERS if name in given})
    if which.plugin is not None and which.state is None:
        raise Invalid("plugin", "needs state: the state of an event is a plugin's")
    if which.since is not None and which.until is not None and which.since >= which.until:
        raise Invalid("until", "expected a time after since, so nothing can match")
    return which


def require_known(config: Config, search: Search, organisation: str | None, plugin: str | None = None) -> None:
    """`Invalid` for a name that neither the config nor the journal has."""
    plugins = [table.name for table in config.plugins]
    if organisation not in (None, *config.organisations) and not search.knows_organisation(str(organisation)):
        known = meant(str(organisation), config.organisations)
        raise Invalid("organisation", f"unknown organisation {show(organisation)}; {known}")
    if plugin not in (None, *plugins) and not search.knows_plugin(str(plugin)):
        raise Invalid("plugin", f"unknown plugin {show(plugin)}; {meant(str(plugin), plugins)}")


def number(given: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number."""
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise Invalid(name, f"expected a number from {least} to {most}, found {show(text)}")
    return int(text)


def moment(name: str, text: str) -> datetime:
    """A time; see `moment_of`."""
    try:
        return moment_of(text)
    except ValueError as error:
        raise Invalid(name, str(error)) from None


def hook(name: str, text: str) -> str:
    """The hook that is meant by a spelling such as `inboundMessage`."""
    found = UNKNOWN if text == UNKNOWN else hook_names({}).get(normalise(text))
    if found is None:
        raise Invalid(name, f"unknown hook {show(text)}; {meant(text, [*HOOKS, UNKNOWN])}")
    return found


def is_id(text: str) -> bool:
    """Whether a text may be the id of an event."""
    return _ID.fullmatch(text) is not None


def cursor(given: dict[str, str]) -> str | None:
    """The cursor of a list of events: the id of the last one before it."""
    text = given.get("cursor")
    if text is not None and not is_id(text):
        raise Invalid("cursor", f"expected the next of the page before, found {show(text)}")
    return text


def _plain(name: str, text: str) -> str:
    return text


def _address(name: str, text: str) -> str:
    if not address_key(text):
        raise Invalid(name, f"expected an address such as +353861234567, found {show(text)}")
    return text


def _words(name: str, text: str) -> str:
    if not wanted_words(text):
        raise Invalid(name, "expected a word, found a text without a letter or a digit")
    return text


def _state(name: str, text: str) -> str:
    state = text.replace("-", " ")
    if state not in STATES:
        raise Invalid(name, f"unknown state {show(text)}; use one of: {', '.join(STATES)}")
    return state
