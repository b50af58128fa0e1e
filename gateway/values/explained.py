"""An answer with all that is known of it, for an operator who asks; Webio gets the answer alone."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.values.answer import Answer, FieldDetail


class Explained(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What Webio would be answered, and what became of each field. `problem` is there where it is a failure, and
    `values` empty then."""

    status: int
    values: dict[str, str | None]
    fields: dict[str, FieldDetail]
    problem: dict[str, Any] | None = None


def explained(answer: Answer) -> Explained:
    document = msgspec.json.decode(answer.body)
    if answer.status == 200:
        return Explained(status=200, values=document, fields=answer.details)
    return Explained(status=answer.status, values={}, fields=answer.details, problem=document)
