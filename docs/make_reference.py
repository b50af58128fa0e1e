"""Prints the reference for plugin authors, made from the code: `make docs-reference` writes it to docs/reference.md."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

import gateway
from gateway import events, hookspecs, testing
from gateway.plugin_host.bind import EVENT_HOOKS, HOOK_NAMES
from gateway.testing.checking import CHECKS

MAIN: Final = "the plugin's event loop (`async def`) or one of its worker threads (plain `def`)"
REPEATED: Final = (
    "In order within a conversation, up to `concurrency` conversations at the same time. At least once: an event comes"
    " again after an exception, a crash or a replay, with the same `event.id`."
)


class Facts(NamedTuple):
    """What the signature of a hook does not say."""

    thread: str
    raises: str
    order: str


EVENT: Final = Facts(
    MAIN,
    "This plugin's delivery of this event is tried again with growing pauses, then it is a dead letter."
    " `Retry(after=...)` sets the pause, `Reject(reason)` makes it a dead letter at once."
    " More than `timeout` counts as an exception.",
    REPEATED,
)
FACTS: Final = {
    "startup": Facts(
        MAIN,
        "Logged and shown in health; `shutdown` is called, and `startup` again after a pause. Its events wait.",
        "In config order. Once at each start, and after each attempt that failed.",
    ),
    "shutdown": Facts(MAIN, "Logged; the next plugin still shuts down.", "In reverse order, once for each `startup`."),
    "check": Facts(
        MAIN, "Reported as the plugin's fault by `gateway check`.", "Only by `gateway check`, without `startup`."
    ),
    "checkpoint": Facts(
        MAIN,
        "Everything since the last checkpoint counts as not delivered, and comes again.",
        "Before each move of the plugin's cursor; never two at the same time, but beside calls with events.",
    ),
    "custom_values": Facts(
        "the plugin's event loop (`async def`) or one of up to 32 further threads (plain `def`)",
        "The request fails (502), unless a provider earlier in the config knows the field; `SeveralCustomers`: 409;"
        " `TimeoutError`, or no answer in time: 504.",
        "Requests come at the same time, in no order. A cache must not answer one customer with another's.",
    ),
    "custom_value_fields": Facts(
        MAIN, "Any field may then be asked of the plugin; logged.", "After `startup`, and again while it returns None."
    ),
    "notice": Facts(
        MAIN,
        "Logged; this notice is not told again, and the next one comes.",
        "One after the other, in the order of what happened, beside calls with events.",
    ),
    "forget": Facts(
        MAIN,
        "`gateway forget` reports it, asks all other plugins, and exits with 1.",
        "After the events that the plugin had are settled. It may be called again with the same selector.",
    ),
    **dict.fromkeys(EVENT_HOOKS, EVENT),
}
FIELDS: Final = {
    "id": "Stable: the same event has the same id, in a retry, after a crash and in a replay.",
    "received_at": "When the gateway received it; aware, in UTC.",
    "organisation": "The organisation of the config whose token it came with.",
    "hook": "Such as `payment`, or `unknown`.",
    "payload": "The body as the struct of its hook; None where it is unknown or cannot be read.",
    "raw": "The body as received.",
    "readable": "Whether the body fits its hook. An unknown event is readable.",
    "conflict": "Whether another event with the same natural key, and a different body, came before.",
    "conversation_id": "Webio's id of the conversation, in which order is kept.",
    "customer_uid": "Your id of the customer; None where Webio sends an empty text or null.",
    "name": "What an unknown event came by: its `type`, or `/` and the rest of its path; at most 64 characters.",
    "attempt": "The number of this try, from 1.",
    "redelivered": "Whether this plugin may have had it before.",
    "replayed": "Whether an operator asked for it again.",
    "epoch": "Grows each time that another gateway takes over the plugin's events; 0 where the journal is a file.",
    "type": "As received.",
    "extra": "Every other field, by Webio's name; numbers that are not integers are `Decimal`.",
    "communication_action_id": "Webio's id of the message.",
    "outbound_channel_address": "The customer's address, such as a phone number.",
    "inbound_channel_address": "The organisation's channel.",
    "date_created": "Webio's date, aware, by the time zone of the organisation where it carries none.",
    "body": "The text of the message.",
    "status_code": "Webio's text, as received.",
    "fields": "The names that this provider may answer.",
    "not_by_address": "The fields that the address alone must not answer; `fields_for` leaves them out.",
    "expires": "When an answer is too late, on `time.monotonic()` in seconds.",
    "directory": "The folder of the config file.",
    "log": "A logger for the instance.",
    "organisations": "The names of the organisations of the config.",
    "metrics": "The metrics of the instance's own.",
    "state": "Where `state_dir` is, or is made.",
    "node": "The gateway's name where others share its journal, else None.",
    "spawner": "What `spawn` calls.",
    "address": "The customer's address, in any notation.",
    "kind": "What the condition is of.",
    "key": "The same for all notices about one condition.",
    "sentence": "The condition, or its end, in words.",
    "since": "When it began; aware, in UTC.",
    "plugin": "The name of the instance that it is about, if it is about one.",
    "count": "How many dead letters, or events of the unknown type, there are; 0 for other kinds and at the end.",
    "recovered": "Whether the condition is over.",
}
OWN: Final = {("Context", "name"): "The name of the instance: of its table in the config."}
DOCUMENTED: Final = (
    *(gateway.InboundMessage, gateway.MessageSend, gateway.DeliveryReport, gateway.Payment, gateway.SetStatus),
    *(gateway.ConversationClosed, gateway.MoveToQueue, gateway.ConversationAssignment),
)
SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "Duration": ('"30s"', '"1h30m"', '"250ms"', "30"),
    "Size": ('"1 MiB"', '"10 GiB"', '"1 M"'),
    "Secret": ('{ env = "CRM_TOKEN" }', '"literal-secret-in-the-file"'),
    "Network": ('"10.0.0.0/8"', '"::1"', '"10.0.0.1/8"'),
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield from ("# Reference for plugin authors", "")
    yield "Made from the code by `make docs-reference`: change the docstrings there."
    yield "[Writing a plugin](plugins.md) explains the rest."
    yield from ("", f"The version of the contract is {hookspecs.CONTRACT}.", "", "## Hooks", "")
    yield "An implementation may leave out arguments, and be `async def` or plain `def`. None needs to be there."
    for name in HOOK_NAMES:
        yield from _hook(name, FACTS[name])
    yield from ("", "## Events", "", *_prose(events))
    kind: Any
    for kind in (gateway.Event, *DOCUMENTED, gateway.CustomValueRequest, gateway.Selector):
        yield from _struct(kind)
    yield from ("", "## Context", "", *_struct(gateway.Context, heading=False))
    for kind in (gateway.PluginMetrics, gateway.PluginCounter, gateway.PluginGauge, gateway.PluginHistogram):
        yield from _class(kind)
    yield from ("", "## Notices", *_struct(gateway.Notice))
    yield from ("", "## What a plugin raises")
    for kind in (gateway.Retry, gateway.Reject, gateway.SeveralCustomers):
        yield from _class(kind)
    yield from ("", "## Types of settings", "", *_settings())
    yield from ("", "## gateway.testing", "", *_prose(testing), "", *_testing())
    yield from ("", "## The checks of check_plugin", "", "| tier | check | what it requires |", "|---|---|---|")
    for tier, checks in CHECKS.items():
        for check in checks:
            yield f"| {tier} | `{check.__name__}` | {_cell(' '.join((inspect.getdoc(check) or '').split()))} |"


def _hook(name: str, facts: Facts) -> Iterator[str]:
    hook = getattr(hookspecs.Hooks, name)
    yield from ("", f"### {name}", "", "```text", f"{name}{_signature(hook)}", "```", "", *_prose(hook), "")
    yield f"- **Runs on** {facts.thread}."
    yield f"- **If it raises:** {facts.raises}"
    yield f"- **Order and repetition:** {facts.order}"


def _struct(kind: Any, *, heading: bool = True) -> Iterator[str]:
    """A struct: its docstring, its fields, and its methods."""
    yield from ("", f"### {kind.__name__}", "") if heading else ()
    yield from (*_prose(kind), "", "| field | type | in the body | meaning |", "|---|---|---|---|")
    is_body = kind in DOCUMENTED
    for field in msgspec.structs.fields(kind):
        meaning = OWN.get((kind.__name__, field.name)) or FIELDS[field.name]
        wire = f"`{field.encode_name}`" if is_body and field.name != "extra" else ""
        wire += ", always" if is_body and field.required else ""
        yield f"| `{field.name}` | {_cell(_type(field.type))} | {wire} | {_cell(meaning)} |".replace("|  |", "| |")
    yield from _members(kind)


def _class(kind: Any) -> Iterator[str]:
    yield from ("", f"### {kind.__name__}", "", *_prose(kind))
    if kind.__init__ is not object.__init__ and issubclass(kind, Exception) and kind is not gateway.SeveralCustomers:
        yield from ("", "```text", f"{kind.__name__}{_signature(kind.__init__)}", "```")
    yield from _members(kind)


def _members(kind: Any) -> Iterator[str]:
    """Public methods and properties that have a docstring of their own."""
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        if name.startswith("_") or not isinstance(function, types.FunctionType) or not function.__doc__:
            continue
        shown = f"{name}: {_annotation(function)}" if isinstance(member, property) else f"{name}{_signature(function)}"
        yield from ("", f"- `{shown}`", *(f"  {line}" if line else "" for line in _prose(function)))


def _settings() -> Iterator[str]:
    yield "A field of `Config` may have the types of TOML, `pathlib.Path` (relative to the config file), and these:"
    for name, examples in SETTINGS.items():
        kind: Any = getattr(gateway, name)
        yield from ("", f"### {name}", "", *_prose(kind), "", "| in config.toml | is |", "|---|---|")
        for example in examples:
            yield f"| `{example}` | {_cell(_tried(kind, example))} |"
    yield from (
        "",
        "### ExclusivePath",
        "",
        "A path that only one plugin may use: two plugins that name it are an error.",
    )
    yield from ("", "### OrganisationName", "", *_prose(gateway.OrganisationName))
    yield from ("", "### A type of your own", "", "Any class with `from_config(value, directory)`:", "")
    yield from ("```python", inspect.getsource(Percent).rstrip(), "```", "", "| in config.toml | is |", "|---|---|")
    for example in ('"7.5 %"', '"high"'):
        yield f"| `share = {example}` | {_cell(_tried(Percent, example))} |"


class Percent(float):
    """A share, such as "7.5 %"."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Percent:
        if not isinstance(value, str) or not value.endswith("%"):
            raise ValueError('expected a share such as "7.5 %"')
        return cls(float(value[:-1]) / 100)


def _tried(kind: Any, example: str) -> str:
    """What a value of TOML becomes, or the sentence that refuses it."""
    import tomllib

    try:
        value = kind.from_config(tomllib.loads(f"x = {example}")["x"], Path("/etc/gateway"))
    except ValueError as error:
        return f"refused: {error}"
    return f"`{value!r}`"


def _testing() -> Iterator[str]:
    for name in testing.__all__:
        found = getattr(testing, name)
        if inspect.isclass(found):
            yield from ("", f"### {name}", "", *_prose(found))
            annotations = vars(found).get("__annotations__", {})
            yield from _fields_with_docs(found) if annotations else ()
            yield from _members(found) if name not in ("BlockingGateway", "BlockingWebio") else ()
        elif callable(found):
            yield from ("", f"### {name}", "", "```text", f"{name}{_signature(found)}", "```", "", *_prose(found))
        elif name in ("BROKEN_BODIES", "PATIENCE"):
            module = sys.modules["gateway.testing.webio" if name == "BROKEN_BODIES" else "gateway.testing.waiting"]
            yield from ("", f"### {name}", "", _after(inspect.getsource(module), name))


def _fields_with_docs(kind: Any) -> Iterator[str]:
    """The fields of a class that have a docstring below them, as `PluginCase` has them."""
    source = inspect.getsource(kind)
    found = re.findall(r'^    (\w+): ([^\n=]+?)(?: = [^\n]+)?\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
    for name, kind_of, text in found:
        yield from ("", f"- `{name}: {kind_of}`", f"  {' '.join(text.split())}")


def _after(source: str, name: str) -> str:
    """The docstring below an assignment."""
    found = re.search(rf'^{name}\b.*?^"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _prose(thing: Any) -> list[str]:
    """A docstring as paragraphs, one line each; indented lines are code."""
    lines: list[str] = []
    parts = re.split(r"\n\s*\n", inspect.getdoc(thing) or "")
    for is_code, together in itertools.groupby(parts, lambda part: part.startswith("    ")):
        if is_code:
            lines += ["```text", *textwrap.dedent("\n\n".join(together)).splitlines(), "```", ""]
        else:
            for part in together:
                lines += [" ".join(part.split()), ""]
    return lines[:-1]


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [
        one if one.annotation is one.empty else one.replace(annotation=_Bare(one.annotation))
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    result = signature.return_annotation
    result = result if result is signature.empty else _Bare(result)
    return str(signature.replace(parameters=parameters, return_annotation=result))


class _Bare:
    """An annotation without quotes."""

    def __init__(self, text: Any) -> None:
        self._text = str(text)

    def __repr__(self) -> str:
        return self._text


def _annotation(function: Any) -> str:
    return str(inspect.signature(function).return_annotation).strip("'")


def _type(kind: Any) -> str:
    args = typing.get_args(kind)
    if args and typing.get_origin(kind) in (typing.Union, types.UnionType):
        return "a payload, or None" if len(args) > 4 else " or ".join(_type(one) for one in args)
    if kind is type(None):
        return "None"
    if not args:
        return str(kind.__name__)
    return re.sub(r"\b(?:typing|datetime|pathlib|logging|collections\.abc|gateway\.\w+)\.", "", str(kind))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
