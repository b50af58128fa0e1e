"""The package that compiles and evaluates CEL. Another one fits behind `Engine`: the corpus in `tests/` says what it
must do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gateway.plugin_host.where.outcome import NotEvaluated
from gateway.plugin_host.where.rules import Kind

EXTRA: Final = "filters"
MISSING: Final = "a field is missing"
TYPES: Final = "a value has another type than the expression needs"
OTHER: Final = "a value cannot be computed"


class Program(Protocol):
    """A compiled expression, which any thread may evaluate."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The result as a Python value, in a time that grows with the sizes of the expression and the values only.
        `NotEvaluated` where it has none."""


class Engine(Protocol):
    """Compiles expressions."""

    def compile(self, text: str, names: Mapping[str, Kind]) -> Program:
        """`ValueError` with a sentence where the text does not compile, or can never be true or false. Packages that
        know no types find fewer faults."""


class CelExpr:
    """`cel-expr-python`, which wraps Google's implementation in C++. Types are checked when it compiles; regular
    expressions are RE2's, whose time is linear."""

    def __init__(self) -> None:
        from cel_expr_python import cel

        self._cel = cel
        types = cel.Type
        self._types = {
            "text": types.STRING,
            "time": types.TIMESTAMP,
            "bool": types.BOOL,
            "any": types.DYN,
            "map": types.Map(types.STRING, types.DYN),
        }

    def compile(self, text: str, names: Mapping[str, Kind]) -> Program:
        """See `Engine`."""
        environment = self._cel.NewEnv(variables={name: self._types[kind] for name, kind in names.items()})
        try:
            expression = environment.compile(text)
        except RuntimeError as error:
            raise ValueError(_sentence(str(error))) from None
        kind = str(expression.return_type().name())
        if kind not in ("BOOL", "DYN"):
            raise ValueError(f"expected an expression that is true or false, found one of type {kind.lower()}")
        return _CelExprProgram(expression)


class _CelExprProgram:
    def __init__(self, expression: Any) -> None:
        self._expression = expression

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        try:
            result = self._expression.eval(data=values)
            if result.type().name() != "ERROR":
                return result.value()
            text = str(result.value())
        except (RuntimeError, TypeError, ValueError) as error:
            text = str(error)
        raise NotEvaluated(_reason(text))


def _reason(text: str) -> str:
    """What went wrong, without the value that the package's own text may have."""
    if "NOT_FOUND" in text or "not found in Activation" in text or "No value with name" in text:
        return MISSING
    return TYPES if "No matching overload" in text or "value type" in text else OTHER


_OVERLOAD: Final = re.compile(r"found no matching overload for '_?([^']+?)_?' applied to '(.*?)'")
_PLACE: Final = re.compile(r"ERROR: <input>:\d+:\d+: ")


def _sentence(text: str) -> str:
    """The first fault that the package has found, in words."""
    first = _PLACE.split(text, maxsplit=2)[1:2]
    message = (first[0] if first else text).splitlines()[0]
    message = message.replace("google.protobuf.Timestamp", "timestamp").replace("google.protobuf.Duration", "duration")
    return _OVERLOAD.sub(lambda match: f"`{match[1]}` cannot take {match[2]}", message)


def installed_engine() -> Engine:
    """The engine; `ValueError` with a sentence where its package is not installed."""
    try:
        return CelExpr()
    except ImportError:
        install = f'pip install "webio-gateway[{EXTRA}]"'
        raise ValueError(f"needs the extra `{EXTRA}`, which is not installed; {install}") from None
