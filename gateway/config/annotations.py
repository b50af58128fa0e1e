"""The types of a struct's fields without `Annotated` and `None` around them, and what their `Meta` says."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

import msgspec

_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


def bare(kind: Any) -> Any:
    """A type without None, and without what only describes it, so that tables and arrays in it can be walked. Limits,
    such as `Meta(ge=1)`, stay."""
    kind = without_none(kind)
    if typing.get_origin(kind) is not Annotated:
        return kind
    inner, *notes = typing.get_args(kind)
    limits = [note for note in notes if isinstance(note, msgspec.Meta) and _limits(note)]
    inner = bare(inner)
    return Annotated[(inner, *limits)] if limits else inner


def notes_of(kind: Any) -> list[msgspec.Meta]:
    """The `Meta` of a type, and of what is in it beside None; the outermost first."""
    if typing.get_origin(kind) is Annotated:
        inner, *notes = typing.get_args(kind)
        return [*(note for note in reversed(notes) if isinstance(note, msgspec.Meta)), *notes_of(inner)]
    inner = without_none(kind)
    return [] if inner is kind else notes_of(inner)


def description_of(kind: Any) -> str | None:
    """What the outermost `Meta(description=...)` says."""
    return next((note.description for note in notes_of(kind) if note.description), None)


def is_exclusive(kind: Any) -> bool:
    """Whether a type is `ExclusivePath`."""
    return any((note.extra or {}).get("exclusive") for note in notes_of(kind))


def without_none(kind: Any) -> Any:
    """`X` of `X | None`; any other type as it is."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def _limits(note: msgspec.Meta) -> bool:
    return any(getattr(note, name) is not None for name in _LIMITS)
