"""Change one thing in a part of the gateway, run the tests of that part, and see whether one fails; many times.

    python benchmarks/mutants.py --count 300 --seed 1 --budget 10m --results mutants.jsonl

A seeded sample of all possible changes ("mutants") of gateway/journal/ and gateway/delivery/ is tried, each in a copy
of the source tree: another comparison, another operator, a condition negated, a number one larger, a statement left
out, and the like. A change that no test notices survives. At most 10 % of the sample may survive, and each survivor
must be in `mutants_accepted.txt` with the reason why that is right.

With `--results` a run that ended early (`--budget`) goes on where it stopped, if the source is still the same."""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

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
    line: int
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
                        name, line = path.relative_to(ROOT).as_posix(), getattr(node, "lineno", 0)
                        yield Mutant(package, name, line, first_line(node), first_line(change), source)


def sample(packages: list[str], count: int, seed: int) -> list[Mutant]:
    everything = [mutant for package in packages for mutant in mutants(package)]
    print(f"{len(everything)} mutants, of which {min(count, len(everything))} are tried (seed {seed})")
    return random.Random(seed).sample(everything, min(count, len(everything)))


def run_tests(tree: Path, package: str, within: float) -> bool:
    """Whether the tests of a package pass in this copy of the source tree, in time."""
    folders = [f"tests/{name}" for name in TESTS[package] if (tree / "tests" / name).is_dir()]
    path = os.pathsep.join([str(tree), str(tree / "plugins")])
    command = [sys.executable, "-m", "pytest", "-x", "-n0", "--timeout", "30", *folders]
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis")}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            return process.wait(within) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return False


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def main(options: argparse.Namespace) -> int:
    chosen = sample(options.packages, options.count, options.seed)
    results: Path | None = options.results
    lines = results.read_text().splitlines() if results and results.exists() else []
    killed: dict[str, bool] = {line["key"]: line["killed"] for line in map(json.loads, lines)}
    deadline = time.monotonic() + options.budget
    trees: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for number in range(options.jobs):
            ignored = shutil.ignore_patterns(".*", "__pycache__", "dist", "var")
            trees.put(Path(shutil.copytree(ROOT, Path(folder, str(number)), ignore=ignored)))
        usual = {}
        for package in options.packages:
            began = time.monotonic()
            assert run_tests(Path(folder, "0"), package, 600), f"the tests of {package} fail without a mutant"
            usual[package] = time.monotonic() - began
            print(f"{package}: its tests take {usual[package]:.0f} s")

        def attempt(mutant: Mutant) -> None:
            if mutant.key in killed or time.monotonic() > deadline:
                return
            tree = trees.get()
            (tree / mutant.path).write_text(mutant.source)
            killed[mutant.key] = dead = not run_tests(tree, mutant.package, 3 * usual[mutant.package] + 20)
            shutil.copy(ROOT / mutant.path, tree / mutant.path)
            trees.put(tree)
            print("killed  " if dead else "SURVIVED", f"line {mutant.line}", mutant.name, flush=True)
            if results:
                with results.open("a") as file:
                    file.write(json.dumps({"key": mutant.key, "killed": dead, "mutant": mutant.name}) + "\n")

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(attempt, chosen))
    tried = [mutant for mutant in chosen if mutant.key in killed]
    accepted = [line.partition("  # ")[0] for line in ACCEPTED.read_text().splitlines()]
    survivors = [mutant for mutant in tried if not killed[mutant.key]]
    unexplained = [mutant for mutant in survivors if mutant.name not in accepted]
    share = 1 - len(survivors) / max(1, len(tried))
    print(f"{len(tried)} of {len(chosen)} tried, {share:.1%} killed, {len(unexplained)} survivors without a reason:")
    for mutant in unexplained:
        print(f"  line {mutant.line} {mutant.name}")
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
