"""Regular expressions whose time is bounded, whatever the expression and the text. Python's own `re` goes back and
tries again, which takes years for some expressions and 40 characters.

Python's parser reads the expression. Its characters become the states of an automaton, and the text is read once, with
all states that it may be in at a time. What needs going back (lookaround, references, possessive repeats) is refused.
"""

from __future__ import annotations

import re
import re._compiler as sre_compiler  # type: ignore[import-not-found]  # `re` has no public way to its parser
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parser  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import Any, Final

LONGEST: Final = 500
"""Characters of an expression."""
STATES: Final = 1000
"""States of its automaton: about its length, after `x{30}` is written as 30 times `x`."""
TEXT: Final = 1024
"""Characters of a text."""
STEPS: Final = 100_000
"""States that are looked at for one text, which takes about 40 ms."""
_MEMORY: Final = 1000
_CHARACTERS: Final = frozenset({sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY})
_REPEATS: Final = frozenset({sre.MAX_REPEAT, sre.MIN_REPEAT})


class Regex:
    """An expression that whole texts are compared with, as `re.fullmatch` does."""

    def __init__(self, source: str) -> None:
        """`ValueError` with a sentence where `source` cannot be used."""
        if len(source) > LONGEST:
            raise ValueError(f"is longer than {LONGEST} characters")
        try:
            parsed = sre_parser.parse(source)
            re.compile(source)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        self._tests: list[re.Pattern[str] | None] = []
        """For each state what its character, or its place (for `_places`), must match; None goes on at once."""
        self._next: list[list[int]] = []
        self._places: set[int] = set()
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._end = self._state(None)
        try:
            self._start = self._sequence(parsed, parsed.state.flags, self._end)
        except RecursionError:
            raise ValueError("is nested too deep") from None

    def matches(self, text: str) -> bool:
        """Whether the whole text matches. `ValueError` with a sentence where that would take too long."""
        if len(text) > TEXT:
            raise ValueError(f"is longer than {TEXT} characters, which a pattern cannot be compared with")
        states, steps = self._reached([self._start], text, 0)
        for place, character in enumerate(text):
            known = self._known.get((states, character)) if not self._places else None
            if known is None:
                matching = [one for state in states if self._takes(state, character) for one in self._next[state]]
                known, more = self._reached(matching, text, place + 1)
                steps += len(states) + more
                if steps > STEPS:
                    raise ValueError("takes too long to compare with the pattern")
                if not self._places and len(self._known) < _MEMORY:
                    self._known[states, character] = known
            states = known
            if not states:
                return False
        return self._end in states

    def _takes(self, state: int, character: str) -> bool:
        test = self._tests[state]
        return test is not None and test.fullmatch(character) is not None

    def _reached(self, states: Iterable[int], text: str, place: int) -> tuple[frozenset[int], int]:
        """The states that wait for a character, or for the end, from these on, and how many were looked at."""
        seen: set[int] = set()
        reached: list[int] = []
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in seen:
                continue
            seen.add(state)
            test = self._tests[state]
            if state == self._end or (test is not None and state not in self._places):
                reached.append(state)
            elif test is None or test.match(text, place) is not None:
                waiting += self._next[state]
        return frozenset(reached), len(seen)

    def _state(self, test: re.Pattern[str] | None, *following: int) -> int:
        if len(self._tests) >= STATES:
            raise ValueError("is too large: with its repeats written out, it has more than 1,000 parts")
        self._tests.append(test)
        self._next.append(list(following))
        return len(self._tests) - 1

    def _sequence(self, nodes: Iterable[Any], flags: int, following: int) -> int:
        """States for nodes after one another; returns the first one."""
        for operation, argument in reversed(list(nodes)):
            following = self._node(operation, argument, flags, following)
        return following

    def _node(self, operation: Any, argument: Any, flags: int, following: int) -> int:
        if operation in _CHARACTERS or operation is sre.AT:
            state = self._state(_compiled(operation, argument, flags), following)
            if operation is sre.AT:
                self._places.add(state)
            return state
        if operation is sre.SUBPATTERN:
            _, added, removed, inner = argument
            return self._sequence(inner, (flags | added) & ~removed, following)
        if operation is sre.BRANCH:
            return self._state(None, *(self._sequence(branch, flags, following) for branch in argument[1]))
        if operation in _REPEATS:
            least, most, inner = argument
            return self._repeat(least, most, inner, flags, following)
        raise ValueError("uses lookaround, a reference or a possessive repeat, whose time cannot be bounded")

    def _repeat(self, least: int, most: int, inner: Any, flags: int, following: int) -> int:
        if most == sre.MAXREPEAT:
            loop = self._state(None, following)
            self._next[loop].append(self._sequence(inner, flags, loop))
            following = loop
        else:
            end = following
            for _ in range(most - least):
                following = self._state(None, end, self._sequence(inner, flags, following))
        for _ in range(least):
            following = self._sequence(inner, flags, following)
        return following


def _compiled(operation: Any, argument: Any, flags: int) -> re.Pattern[str]:
    """Python's own expression for one character or one place."""
    state = sre_parser.State()
    state.flags = flags
    compiled: re.Pattern[str] = sre_compiler.compile(sre_parser.SubPattern(state, [(operation, argument)]), flags)
    return compiled
