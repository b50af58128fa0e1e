"""Change one thing in a part of the gateway, run the tests that reach it, and see whether one fails; many times.

    python benchmarks/mutants.py --count 300 --seed 1 --budget 10m --results mutants.jsonl

A seeded sample of all possible changes ("mutants") of gateway/journal/ and gateway/delivery/ is tried, each in a copy
of the source tree: another comparison, another operator, a condition negated, a number one larger, a statement left
out, and the like. A change that no test notices survives. At most 10 % of the sample may survive, and each survivor
must be in `mutants_accepted.txt` with the reason why that is right.

First, all tests of the two packages run once, and the lines that each reaches are recorded. A mutant then runs those
that reach its lines and those that take long, the fastest first, until one fails (`mutant_runs.py`).

With `--results` a run that ended early (`--budget`) goes on where it stopped, if the source is still the same."""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mutant_runs import Attempt, Runs

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED = Path(__file__).with_name("mutants_accepted.txt")
TESTS = {"journal": ["conformance", "journal"], "delivery": ["delivery"]}
"""Packages of the gateway, and the folders of their tests, in the order in which they run."""
MUST_DIE = 0.9
PAIRS: list[tuple[type[Any], type[Any]]] = [
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)),
    *((ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.BitOr, ast.BitAnd), (ast.Break, ast.Continue)),
]
SWAPS: dict[type[Any], type[Any]] = dict([*PAIRS, *((two, one) for one, two in PAIRS), (ast.FloorDiv, ast.Mult)])


class Mutant(NamedTuple):
    package: str
    path: str
    lines: range
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """What identifies it in the list of accepted survivors: no line number, which moves."""
        return f"{self.path}: {self.before} => {self.after}"

    @property
    def key(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What can stand in this node's place; None: nothing at all."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield ast.Compare(node.left, [SWAPS[type(op)]()], node.comparators)
        case ast.BoolOp(op=op):
            yield ast.BoolOp(SWAPS[type(op)](), node.values)
        case ast.BinOp(op=op, left=left) if type(op) in SWAPS and not isinstance(left, ast.Constant | ast.JoinedStr):
            yield ast.BinOp(left, SWAPS[type(op)](), node.right)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If() | ast.While() | ast.IfExp():
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), node.test)
            yield changed
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.AugAssign(op=op) if type(op) in SWAPS:
            yield ast.AugAssign(node.target, SWAPS[type(op)](), node.value)
        case ast.Break() | ast.Continue():
            yield SWAPS[type(node)]()
        case ast.Expr(value=ast.Call(func=func)) if "log" not in ast.unparse(func).lower():
            yield None
        case ast.Expr(value=ast.Await()) | ast.Raise() | ast.Delete():
            yield None


def first_line(node: ast.AST | None) -> str:
    text = "pass" if node is None else ast.unparse(node)
    return text.splitlines()[0][:100]


def lines_of(node: ast.AST) -> range:
    """The lines of an expression or of a simple statement; of a compound statement only those of its condition."""
    last = node.test if isinstance(node, ast.If | ast.While) else node
    start: int = getattr(node, "lineno", 0)
    return range(start, (getattr(last, "end_lineno", None) or start) + 1)


def untouched(tree: ast.Module) -> set[int]:
    """Nodes that are not changed: annotations, log messages, imports for types, and the numbers of constants, which
    benchmarks are there for."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        roots += [child for field, child in ast.iter_fields(node) if field in ("annotation", "returns") and child]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            roots.append(node)
        if isinstance(node, ast.Call) and "log" in ast.unparse(node.func).lower():
            roots.append(node)
    roots += [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return {id(inner) for root in roots for inner in ast.walk(root)}


def mutants(package: str) -> Iterator[Mutant]:
    """Every mutant of a package, in the order of its source."""
    for path in sorted((ROOT / "gateway" / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        spared = untouched(tree)
        for parent in ast.walk(tree):
            for field, value in ast.iter_fields(parent):
                nodes = value if isinstance(value, list) else [value]
                for index, node in enumerate(nodes):
                    if not isinstance(node, ast.AST) or id(node) in spared:
                        continue
                    for change in changes(node):
                        changed = [*nodes[:index], change or ast.Pass(), *nodes[index + 1 :]]
                        setattr(parent, field, changed if isinstance(value, list) else changed[0])
                        source = ast.unparse(ast.fix_missing_locations(tree))
                        setattr(parent, field, value)
                        name, lines = path.relative_to(ROOT).as_posix(), lines_of(node)
                        yield Mutant(package, name, lines, first_line(node), first_line(change), source)


def sample(packages: list[str], count: int, seed: int) -> list[Mutant]:
    everything = [mutant for package in packages for mutant in mutants(package)]
    print(f"{len(everything)} mutants, of which {min(count, len(everything))} are tried (seed {seed})")
    return random.Random(seed).sample(everything, min(count, len(everything)))


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def main(options: argparse.Namespace) -> int:
    chosen = sample(options.packages, options.count, options.seed)
    results: Path | None = options.results
    lines = results.read_text().splitlines() if results and results.exists() else []
    killed: dict[str, bool] = {line["key"]: line["killed"] for line in map(json.loads, lines)}
    deadline = time.monotonic() + options.budget
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        runs = Runs(ROOT, Path(folder), options.jobs)
        tests = {package: runs.survey(TESTS[package], f"gateway/{package}/") for package in options.packages}
        for package, survey in tests.items():
            total = sum(survey.seconds.values())
            print(f"{package}: {len(survey.seconds)} tests take {total:.0f} s", flush=True)

        def attempts() -> Iterator[tuple[Mutant, Attempt]]:
            for mutant in chosen:
                if mutant.key not in killed and time.monotonic() < deadline:
                    survey = tests[mutant.package]
                    yield mutant, Attempt(mutant.path, mutant.source, survey.reaching(mutant.path, mutant.lines))

        for mutant, passed in runs.run(attempts()):
            killed[mutant.key] = not passed
            print("SURVIVED" if passed else "killed  ", f"line {mutant.lines[0]}", mutant.name, flush=True)
            if results:
                with results.open("a") as file:
                    file.write(json.dumps({"key": mutant.key, "killed": not passed, "mutant": mutant.name}) + "\n")
    tried = [mutant for mutant in chosen if mutant.key in killed]
    accepted = [line.partition("  # ")[0] for line in ACCEPTED.read_text().splitlines()]
    survivors = [mutant for mutant in tried if not killed[mutant.key]]
    unexplained = [mutant for mutant in survivors if mutant.name not in accepted]
    share = 1 - len(survivors) / max(1, len(tried))
    print(f"{len(tried)} of {len(chosen)} tried, {share:.1%} killed, {len(unexplained)} survivors without a reason:")
    for mutant in unexplained:
        print(f"  line {mutant.lines[0]} {mutant.name}")
    return int(share < MUST_DIE or bool(unexplained))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "packages", nargs="*", default=list(TESTS), help="journal, delivery (both, where none is named)"
    )
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--budget", type=seconds, default="2h", help="start no further mutant after this time, e.g. 10m"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--results", type=Path, help="keep results in this file, and skip what is in there")
    sys.exit(main(parser.parse_args()))
