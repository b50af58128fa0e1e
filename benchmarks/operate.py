"""What an operator sees of a large journal, and what looking costs: `python benchmarks/operate.py [SUBJECT...]
[--events 10000000] [--folder /var/tmp/operate]`.

The journal is made once in `--folder` and taken as it is by further runs; it needs 1.1 KB of disk for each event.

- `search`: `gateway events` and `timeline` as commands, and without the start of Python (goal: at most 100 ms)
- `pages`: every page of the dashboard and the API, with the files out of the system's cache and in it (goal: 150 ms)
- `index`: acknowledgements while the search index is filled, over those while it is not (goal: at least 0.97)
- `tabs`: acknowledgements with ten pages of the dashboard open, over those with none (goal: at least 0.97)
- `backup`: the time of `gateway backup` while the gateway works, and acknowledgements meanwhile
- `forget`: the time to erase a customer, acknowledgements meanwhile, and that no byte is left in any file

Rates are of one run, in which both sides take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from large_journal import COMMON, HOT, indexed, make
from subjects import LOAD_CORE, flood, running, steady

# isort: split
from cli_process import GATEWAY
from victim import Victim

from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.sqlite.connection import open_reader_connection, rows
from gateway.journal.sqlite.search_file import search_path

SETTINGS = '[journal]\nmax_size = "100 GiB"\n[values]\naudit = true\n'
SLOW_COMMAND, SLOW_PAGE = 100, 150


def report(name: str, cold: float, warm: float, goal: float, found: object) -> None:
    mark = "  MISSES THE GOAL" if max(cold, warm) > goal else ""
    print(f"  {name:<44} cold {cold:7.1f} ms, warm {warm:7.1f} ms  {found}{mark}", flush=True)


def timed(run: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    found = run()
    return (time.perf_counter() - began) * 1000, found


def drop_from_cache(victim: Victim) -> None:
    """Have the system read the journal's files from the disk again."""
    path = victim.config.journal.path
    for file in (path, search_path(path)):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cold_and_warm(victim: Victim, run: Callable[[], object]) -> tuple[float, float, object]:
    drop_from_cache(victim)
    cold, _ = timed(run)
    again = [timed(run) for _ in range(3)]
    return cold, statistics.median(took for took, _ in again), again[0][1]


def filters(count: int) -> dict[str, dict[str, str]]:
    """What is looked for: by a filter of `gateway events` and of `/api/events` alike."""
    customer = count // 20
    return {
        "a customer": {"customer": f"{customer:08}"},
        "a hot customer": {"customer": HOT},
        "an address": {"address": f"+44 77 {customer:08}"},
        "a conversation": {"conversation": f"{customer * 3}"},
        "a word of every message": {"text": COMMON},
        "a rare word": {"text": "rare3"},
        "two frequent words": {"text": "word40 word41"},
        "the beginning of a word": {"text": "word777*"},
        "a hot customer and a rare word": {"customer": HOT, "text": "rare3"},
        "a hot customer and a hook": {"customer": HOT, "hook": "payment"},
        "nothing that exists": {"customer": "nobody"},
        "a hook": {"hook": "payment"},
        "a hook that never came": {"hook": "conversation-closed"},
        "dead letters": {"state": "dead"},
        "dead letters of a hook and plugin": {"state": "dead", "hook": "payment", "plugin": "archive"},
        "retries": {"state": "retrying"},
        "waiting": {"state": "waiting"},
        "delivered": {"state": "delivered"},
        "taken by no plugin": {"state": "no taker"},
        "a hot customer's dead letters": {"customer": HOT, "state": "dead"},
        "a hot customer's waiting events": {"customer": HOT, "state": "waiting"},
        "a hook, waiting": {"hook": "message-send", "state": "waiting"},
        "everything": {},
    }


def search(victim: Victim, options: argparse.Namespace) -> None:
    print("in process:", flush=True)
    customer = f"{options.events // 20:08}"
    for name, given in filters(options.events).items():

        def listed(given: dict[str, str] = given) -> str:
            with closing(open_reader(victim.config)) as reader:
                return f"{len(list(reader.events(Filter(**given), 50, newest=True)))} rows"  # type: ignore[arg-type]

        report(name, *cold_and_warm(victim, listed)[:2], SLOW_COMMAND, listed())
    for name, which in {"a customer": {"customer": customer}, "a hot customer": {"customer": HOT}}.items():

        def first(which: dict[str, str] = which) -> str:
            with closing(open_reader(victim.config)) as reader:
                lines = reader.timeline(Filter(**which))  # type: ignore[arg-type]
                return f"{len([line for line, _ in zip(lines, range(200), strict=False)])} lines"

        report(f"the timeline of {name}", *cold_and_warm(victim, first)[:2], SLOW_COMMAND, first())
    print("as commands, with the start of Python:", flush=True)
    start, _ = timed(lambda: command(victim, "--version", config=False))
    print(f"  gateway --version: {start:.0f} ms")
    for arguments in (
        ["events", "--customer", customer], ["events", "--address", f"+4477{customer}"], ["events", "--text", COMMON],
        ["events", "--conversation", f"{options.events // 20 * 3}"],
    ):  # fmt: skip
        cold, warm, found = cold_and_warm(victim, lambda: command(victim, *arguments, "--limit", "50"))  # noqa: B023
        print(f"  gateway {' '.join(arguments)}: cold {cold:.0f} ms, warm {warm:.0f} ms, {found} lines", flush=True)
    cold, warm, found = cold_and_warm(victim, lambda: command(victim, "timeline", "--customer", customer))
    print(
        f"  gateway timeline --customer {customer}: cold {cold:.0f} ms, warm {warm:.0f} ms, {found} lines", flush=True
    )


def command(victim: Victim, *arguments: str, config: bool = True) -> int:
    """How many lines a command prints."""
    more = ["-c", str(victim.config_path)] if config else []
    done = subprocess.run([GATEWAY, *arguments, *more], capture_output=True, text=True, check=True)
    return len(done.stdout.splitlines())


def pages(victim: Victim, options: argparse.Namespace) -> None:
    customer = f"{options.events // 20:08}"
    with running(victim), httpx.Client(base_url=f"http://127.0.0.1:{victim.config.admin.port}", timeout=60) as client:

        def get(path: str, query: dict[str, str]) -> str:
            answer = client.get(path, params=query)
            return f"{answer.status_code}, {len(answer.content)} bytes"

        asked: list[tuple[str, str, dict[str, str]]] = [
            (path, path, {})
            for path in ("/", "/trouble", "/drift", "/values", "/config", "/find", "/api/status", "/api/dead/groups",
                         "/api/drift", "/api/values", "/api/config", "/metrics", "/health/ready")
        ]  # fmt: skip
        event = client.get("/api/events", params={"limit": "1"}).json()["items"][0]["id"]
        asked += [("an event", f"/events/{event}", {}), ("/api/events/{id}", f"/api/events/{event}", {})]
        for name, which in (("a customer", {"customer": customer}), ("a hot customer", {"customer": HOT})):
            asked += [(f"{path} of {name}", path, which) for path in ("/timeline", "/api/timeline")]
        for name, given in filters(options.events).items():
            asked.append((f"/api/events, {name}", "/api/events", given))
        for name in ("a hot customer", "dead letters", "a word of every message", "a hook"):
            query = " ".join(f"{key}:{value}" for key, value in filters(options.events)[name].items())
            asked.append((f"/find, {name}", "/find", {"q": query}))
        asked += [("/find, one word", "/find", {"q": "word40"}), ("/find, a number", "/find", {"q": f"4477{customer}"})]
        for name, path, given in asked:
            cold, warm, found = cold_and_warm(victim, lambda: get(path, given))  # noqa: B023
            report(name, cold, warm, SLOW_PAGE, found)


def paired(
    options: argparse.Namespace,
    name: str,
    victim: Victim,
    gateway: Callable[[bool], AbstractContextManager[None]],
) -> None:
    """Acknowledgements with something and without it, in turns."""
    ratios, late = [], []
    for number in range(options.rounds):
        found: dict[bool, dict[str, Any]] = {}
        for there in (True, False) if number % 2 else (False, True):
            with gateway(there):
                victim.wait(lambda: not any(one["behind"] for one in victim.ready()[1]["plugins"]), "delivered", 60)
                flood(victim, 2, options.connections)
                found[there] = flood(victim, options.seconds, options.connections)
        ratios.append(found[True]["rate"] / found[False]["rate"])
        late.append((found[True]["p99_ms"], found[False]["p99_ms"]))
        print(f"  {found[True]['rate']:.0f}/s with {name}, {found[False]['rate']:.0f}/s without; p99"
              f" {late[-1][0]:.1f} and {late[-1][1]:.1f} ms", flush=True)  # fmt: skip
    print(f"acknowledged with {name} over without: {statistics.median(ratios):.3f}", flush=True)


@contextmanager
def indexing(victim: Victim, there: bool) -> Iterator[None]:
    """A gateway that fills the search index, or, with a folder in its place, one that cannot."""
    index = search_path(victim.config.journal.path)
    kept = victim.directory / "kept"
    if not there:
        for ending in ("-wal", "-shm"):
            index.with_name(index.name + ending).unlink(missing_ok=True)
        index.rename(kept)
        index.mkdir()
    try:
        with running(victim):
            yield
    finally:
        if not there:
            index.rmdir()
            kept.rename(index)


def index(victim: Victim, options: argparse.Namespace) -> None:
    paired(options, "the index", victim, lambda there: indexing(victim, there))
    with running(victim):
        behind = newest(victim) - indexed(victim.config)
        began = time.monotonic()
        while indexed(victim.config) < newest(victim):
            time.sleep(0.2)
        seconds = time.monotonic() - began
    print(f"the index caught up {behind} events in {seconds:.0f} s: {seconds / max(behind, 1) * 1e6:.0f} s per million")


def newest(victim: Victim) -> int:
    """The position of the newest event."""
    with closing(open_reader_connection(victim.config.journal.path)) as connection:
        [(found,)] = rows(connection, "SELECT max(seq) FROM events")
        return int(found)


@contextmanager
def watched(victim: Victim, count: int) -> Iterator[None]:
    """So many pages that are open: each does what the page Now does, in a process on the core of the load."""
    with running(victim):
        url = f"http://127.0.0.1:{victim.config.admin.port}"
        command = ["taskset", "-c", LOAD_CORE, sys.executable, __file__, "watch", "--url", url, "--pages", str(count)]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline()  # each has its first page
            yield
        finally:
            watching.kill()
            watching.wait()


def watch(url: str, count: int) -> None:
    """Open so many pages, each from an address of its own."""
    opened = threading.Barrier(count + 1)
    for number in range(count):
        threading.Thread(target=_page, args=(url, f"127.0.0.{number + 1}", opened), daemon=True).start()
    opened.wait()
    print("open", flush=True)
    threading.Event().wait()


def _page(url: str, address: str, opened: threading.Barrier) -> None:
    """What a page that is open does: it asks for itself when `/changes` says so, at most every 0.5 s, and every 5 s
    where it gets no stream."""
    with httpx.Client(base_url=url, timeout=None, transport=httpx.HTTPTransport(local_address=address)) as client:
        client.get("/")
        opened.wait()
        while True:
            with client.stream("GET", "/changes") as changes:
                for line in changes.iter_lines() if changes.status_code == 200 else ():
                    if line.startswith("data"):
                        client.get("/", headers={"hx-request": "true"})
                        time.sleep(0.5)
            client.get("/")
            time.sleep(5)


def backup(victim: Victim, options: argparse.Namespace) -> None:
    target = victim.directory / "backup.db"
    target.unlink(missing_ok=True)
    with running(victim):
        before = steady(victim, options.rate, 10)
        began = time.monotonic()
        copying = victim.operate("backup", str(target))
        during = steady(victim, options.rate, 10)
        longest = during["p99_ms"]
        while copying.poll() is None:
            during = steady(victim, options.rate, 5)
            longest = max(longest, during["p99_ms"])
        seconds = time.monotonic() - began
    print(
        f"backup of {target.stat().st_size / 2**30:.1f} GiB in {seconds:.0f} s, exit code {copying.poll()}", flush=True
    )
    print(
        f"at {options.rate}/s p99 {before['p99_ms']:.1f} ms before and at most {longest:.1f} ms meanwhile", flush=True
    )
    target.unlink()


def tabs(victim: Victim, options: argparse.Namespace) -> None:
    paired(options, "ten open pages", victim, lambda there: watched(victim, 10 if there else 0))


def forget(victim: Victim, options: argparse.Namespace) -> None:
    customer = f"{options.events // 30:08}"
    with running(victim):
        before = steady(victim, options.rate, 10)
        began = time.monotonic()
        erasing = victim.operate("forget", "--customer", customer, "--yes")
        longest = 0.0
        while erasing.poll() is None:
            longest = max(longest, steady(victim, options.rate, 5)["p99_ms"])
        seconds = time.monotonic() - began
        left = sum(traces(path, customer) for path in victim.config.journal.path.parent.glob("journal*"))
    print(f"forget in {seconds:.0f} s, exit code {erasing.poll()}, {left} traces left in the files", flush=True)
    print(
        f"at {options.rate}/s p99 {before['p99_ms']:.1f} ms before and at most {longest:.1f} ms meanwhile", flush=True
    )


def traces(path: Path, customer: str) -> int:
    """How often a file has the customer's address, which has the customer's UID in it."""
    found, size = 0, 2**26
    with path.open("rb") as file:
        before = b""
        while block := file.read(size):
            found += (before + block).count(f"4477{customer}".encode())
            before = block[-16:]
    return found


SUBJECTS: dict[str, Callable[[Victim, argparse.Namespace], None]] = {
    "search": search, "pages": pages, "index": index, "tabs": tabs, "backup": backup, "forget": forget,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"{', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=int, default=500, help="events a second while something else is measured")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/operate"), help="where the journal is, and stays")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subjects == ["watch"]:
        watch(options.url, options.pages)
    config = options.folder / "config.toml"
    victim = Victim(options.folder, SETTINGS)
    print(f"{config}: {options.events} events", flush=True)
    make(victim.config, options.events)
    for name in options.subjects or SUBJECTS:
        print(f"{name}:", flush=True)
        SUBJECTS[name](victim, options)


if __name__ == "__main__":
    main()
