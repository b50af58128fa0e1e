"""What the checks need to know of a plugin, from its author."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PluginCase:
    """A plugin with its target: a folder, a table, a server. Each check asks for a new one, with a target of its own.

    The functions are called in the thread of the checks, and may block. What a plugin does not need stays None.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    """The plugin's table of the config, without a table around it. Paths are relative to the folder of the check."""
    gateway: Mapping[str, Any] = field(default_factory=dict)
    """Other tables of the config, such as `{"values": {...}}`."""

    # a plugin that takes events
    taken: Callable[[], Iterable[str]] | None = None
    """The ids of the events that are durable in the target now: an id as often as the target has it."""
    repeats: bool = False
    """Whether the target may have an event twice after a crash. The plugin's docs must say how to tell: by the id."""
    keeps: bool = True
    """Whether what it took can be erased later: then the plugin must have `forget`. False for one that only passes
    events on, such as to a broker."""
    fails: Callable[[], AbstractContextManager[object]] | None = None
    """Inside this context the target fails: a server is away, a folder cannot be written, a service answers 500."""
    refuses: Callable[[], AbstractContextManager[object]] | None = None
    """Inside this context the target refuses each event for good, so that the plugin must raise `Reject`."""
    burst: int = 500
    """Events of each of the four rounds in which the plugin must not grow: fewer, but at least 50, where the target is
    slow."""

    # a plugin that answers custom values
    customer_uid: str = "123456"
    """A customer that the target knows."""
    values: Mapping[str, str] = field(default_factory=dict)
    """The values of that customer, by field, as Webio gets them."""
    for_everyone: bool = False
    """Whether every customer gets these values."""

    secrets: tuple[str, ...] = ()
    """Secrets of `config`, such as a password in a file. None may be in an error, in the log or in a repr."""
