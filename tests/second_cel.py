"""Another package behind `where`: `common-expression-language`, in Rust, which knows no types when it compiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import cel

from gateway.plugin_host.where.engine import MISSING, OTHER, TYPES, Program
from gateway.plugin_host.where.outcome import NotEvaluated
from gateway.plugin_host.where.rules import Kind


class RustCel:
    """See `Engine`."""

    def compile(self, text: str, names: Mapping[str, Kind]) -> Program:
        try:
            return _Compiled(cel.compile(text), names)
        except ValueError as error:
            raise ValueError(str(error).splitlines()[0]) from None


class _Compiled:
    def __init__(self, program: cel.Program, names: Mapping[str, Kind]) -> None:
        self._program = program
        self._names = names

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        try:
            return self._program.execute(dict(values))
        except KeyError:
            reason = MISSING
        except TypeError:
            reason = TYPES
        except RuntimeError as error:
            undefined = re.match("Undefined variable or function: '(.*?)'", str(error))
            reason = OTHER if undefined is None else MISSING if undefined[1] in self._names else TYPES
        except (ValueError, ArithmeticError, IndexError):
            reason = OTHER
        raise NotEvaluated(reason)
