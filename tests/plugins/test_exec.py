"""exec: a program per event, and what its exit code means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from asking import check
from gateway_exec import ExecPlugin
from gateway_exec.plugin import ExecFailed, ExecSaid
from running import read_config
from sending import event, sending, settings_of

from gateway import Reject
from gateway.config.convert import ConfigError
from gateway.plugin_host.load import load_plugins
from gateway.plugin_host.loop import new_loop

SLEEPS = "sleep 600 & sleep 600 & echo $! > child; wait"


def configured(script: str, options: str = "") -> str:
    return f"[plugins.exec]\ncommand = ['sh', '-c', '''{script}''']\n{options}\n"


@contextlib.asynccontextmanager
async def started(directory: Path, text: str) -> AsyncIterator[ExecPlugin]:
    plugin = ExecPlugin(settings_of(directory, text))
    await plugin.startup()
    try:
        yield plugin
    finally:
        await plugin.shutdown()


BEFORE: set[psutil.Process] = set()
"""What this process had started before the test: servers of other tests."""


@pytest.fixture(autouse=True)
def _processes_of_others() -> None:
    BEFORE.clear()
    BEFORE.update(psutil.Process().children(recursive=True))


def descendants() -> list[psutil.Process]:
    """What this test has started and not buried, zombies too."""
    return [process for process in psutil.Process().children(recursive=True) if process not in BEFORE]


def children() -> list[psutil.Process]:
    """The same, without the plugin's guard."""
    return [process for process in descendants() if not is_guard(process)]


def is_guard(process: psutil.Process) -> bool:
    try:
        return "groups = set()" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


async def until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_the_program_gets_the_archives_line_on_its_standard_input(tmp_path: Path) -> None:
    """One line, its body as received; head and attempt are in the environment, too."""
    script = "cat > line; env | grep ^EVENT_ | sort > variables"
    async with started(tmp_path, configured(script)) as plugin:
        await plugin.on_event(event(7, b'{"amount": 12.50,\n "a": 1, "a": 2}', attempt=3))
    assert (tmp_path / "line").read_bytes() == (
        b'{"id":"01935498-0000-7000-8000-000000000007","received_at":"2026-11-22T15:54:24.123456Z",'
        b'"organisation":"acme","hook":"payment","body":{"amount": 12.50,  "a": 1, "a": 2}}\n'
    )
    assert (tmp_path / "variables").read_text().splitlines() == [
        "EVENT_ATTEMPT=3",
        "EVENT_HOOK=payment",
        "EVENT_ID=01935498-0000-7000-8000-000000000007",
        "EVENT_ORGANISATION=acme",
    ]


async def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    """No shell reads them."""
    program = "import sys, json; json.dump(sys.argv[1:], open('arguments', 'w'))"
    words = ["$HOME; rm -rf x", "*", "a b", "'\"", "{id}"]
    command = json.dumps([sys.executable, "-c", program, *words])
    async with started(tmp_path, f"[plugins.exec]\ncommand = {command}\n") as plugin:
        await plugin.on_event(event())
    assert json.loads((tmp_path / "arguments").read_text()) == words


async def test_the_environment_is_small_and_configurable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's own variables, secrets among them, do not reach the program unless they are named."""
    monkeypatch.setenv("WEBIO_SECRET", "hunter2")
    monkeypatch.setenv("MINE", "yes")
    (tmp_path / "token").write_text("hunter3")
    options = (
        'inherit = ["MINE"]\nenvironment = { TEAM = "billing" }\nsecret_environment = { TOKEN = { file = "token" } }\n'
    )
    async with started(tmp_path, configured("env > variables", options)) as plugin:
        await plugin.on_event(event())
    found = dict(line.split("=", 1) for line in (tmp_path / "variables").read_text().splitlines())
    own = {"PWD", "SHLVL", "_", "OLDPWD"} | {name for name in found if name.startswith("EVENT_")}
    assert {name: found[name] for name in found.keys() - own} == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "MINE": "yes",
        "TEAM": "billing",
        "TOKEN": "hunter3",
    }


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("exit 75", ExecFailed, "exit code 75"),
        ("exit 1", Reject, "exit code 1"),
        ("exit 127", Reject, "exit code 127"),
        ("kill -9 $$", ExecFailed, "ended by SIGKILL"),
        ("kill -40 $$", ExecFailed, "ended by signal 40"),
    ],
)
async def test_the_exit_code_says_never_or_again(
    tmp_path: Path, script: str, error: type[Exception], message: str
) -> None:
    """What the program writes is in no message."""
    async with started(tmp_path, configured(f"echo +447700900123 >&2; {script}")) as plugin:
        with pytest.raises(error) as raised:
            await plugin.on_event(event())
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo first >&2; echo no account >&2; echo >&2; exit 1", Reject, "exit code 1: no account"),
        ("echo busy >&2; exit 75", ExecSaid, "exit code 75: busy"),
        ("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1", Reject, "exit code 1: " + "x" * 200),
        ("exit 1", Reject, "exit code 1"),
        ("echo fine >&2", None, ""),
        ("echo early >&2; sleep 600 & exit 1", Reject, "exit code 1: early"),
        ("echo early >&2; setsid sleep 3 & exit 1", Reject, "exit code 1: early"),
    ],
)
async def test_the_last_line_of_standard_error_where_it_is_wanted(
    tmp_path: Path, script: str, error: type[Exception] | None, message: str
) -> None:
    """Bounded, and no longer waited for than the program runs."""
    async with started(tmp_path, configured(script, "show_errors = true\n")) as plugin:
        if error is None:
            await plugin.on_event(event())
        else:
            with pytest.raises(error) as raised:
                await plugin.on_event(event())
            assert str(raised.value).startswith(message)
            assert len(str(raised.value)) <= 213


async def test_a_program_need_not_read_what_it_is_given(tmp_path: Path) -> None:
    """Not even a large event, and not where something else holds its standard input open."""
    large = b'{"text": "%b"}' % (b"x" * 1_000_000)
    for script in ("exit 0", "exec < /dev/null", "sleep 600 <&0 & exit 0"):
        async with started(tmp_path, configured(script)) as plugin:
            await plugin.on_event(event(1, large))
    await until(lambda: not children())


async def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """Everything in its process group, also after success."""
    async with started(tmp_path, configured("sleep 600 & echo $! > child")) as plugin:
        await plugin.on_event(event())
        pid = int((tmp_path / "child").read_text())
        await until(lambda: is_gone(pid))


async def test_a_program_that_takes_too_long_is_killed_with_all_its_children(tmp_path: Path) -> None:
    """By the timeout of the plugin's table; the event is tried again."""
    options = 'timeout = "500ms"\nbackoff = "1ms"\nbackoff_max = "1ms"\n'
    script = f"test -e child && exit 0; {SLEEPS}"
    async with sending(tmp_path, configured(script, options)) as rig:
        await rig.send("x")
        await rig.idle()
        pid = int((tmp_path / "child").read_text())
        await until(lambda: is_gone(pid))
        await until(lambda: not children())
        assert rig.states("exec") == ["delivered"]
        assert rig.consumer("exec").health.failures >= 1


async def test_a_program_that_takes_too_long_is_asked_to_end_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, so that it can tidy up."""
    monkeypatch.setattr("gateway_exec.child.GRACE", 20.0)
    async with started(
        tmp_path, configured("read event; trap 'echo bye > said; exit 1' TERM; echo > runs; sleep 600 & wait")
    ) as one:
        call = asyncio.create_task(one.on_event(event()))
        await until((tmp_path / "runs").exists)
        call.cancel()
        await asyncio.wait([call])
        assert (tmp_path / "said").read_text() == "bye\n"
        assert call.cancelled()


async def test_shutdown_asks_a_program_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had time to do counts."""
    monkeypatch.setattr("gateway_exec.child.GRACE", 20.0)
    plugin = ExecPlugin(
        settings_of(tmp_path, configured("read event; trap 'exit 0' TERM; echo > runs; sleep 600 & wait"))
    )
    await plugin.startup()
    call = asyncio.create_task(plugin.on_event(event()))
    await until((tmp_path / "runs").exists)
    await plugin.shutdown()
    await call
    assert not descendants()


async def test_shutdown_kills_a_program_that_does_not_end(tmp_path: Path) -> None:
    plugin = ExecPlugin(
        settings_of(tmp_path, configured("read event; trap '' TERM; echo > runs; sleep 600; sleep 600"))
    )
    await plugin.startup()
    call = asyncio.create_task(plugin.on_event(event()))
    await until((tmp_path / "runs").exists)
    await plugin.shutdown()
    with pytest.raises(ExecFailed, match=r"^ended by SIGKILL"):
        await call
    assert not descendants()


GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway_exec.child import Children

async def main():
    children = Children(["sh", "-c", sys.argv[1]], Path.cwd(), {"PATH": "/usr/bin:/bin"}, listen=False)
    await asyncio.gather(*(children.run(b"{}\\n", {"NUMBER": str(number)}) for number in range(3)))

asyncio.run(main())
"""


async def test_programs_do_not_outlive_a_gateway_that_is_killed(tmp_path: Path) -> None:
    """Nor does what they started, also where they ignore signals, nor the guard that kills them."""
    script = "read event; trap '' TERM HUP; sleep 600 & echo $! $$ > soon$NUMBER; mv soon$NUMBER pids$NUMBER; wait"
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", GATEWAY, script, cwd=tmp_path)
    await until(lambda: len(list(tmp_path.glob("pids*"))) == 3)
    pids = [int(pid) for path in tmp_path.glob("pids*") for pid in path.read_text().split()]
    guards = [one.pid for one in psutil.Process(gateway.pid).children() if is_guard(one)]
    assert (len(pids), len(guards)) == (6, 1)
    assert not any(map(is_gone, (*pids, *guards)))
    gateway.kill()
    await gateway.wait()
    await until(lambda: all(map(is_gone, (*pids, *guards))))


async def test_a_guard_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """With the next event."""
    async with started(tmp_path, configured("exit 0")) as plugin:
        await plugin.on_event(event())
        [guard] = filter(is_guard, descendants())
        guard.kill()
        await until(lambda: not any(map(is_guard, descendants())))

        async def taken() -> bool:
            try:
                await plugin.on_event(event())
            except ExecFailed:
                return False
            return any(map(is_guard, descendants()))

        for _ in range(100):
            if await taken():
                break
            await asyncio.sleep(0.01)
        assert any(map(is_guard, descendants()))


async def test_shutdown_ends_what_runs(tmp_path: Path) -> None:
    """A call that is under way fails, nothing is left running, and nothing is left unburied."""
    plugin = ExecPlugin(settings_of(tmp_path, configured(SLEEPS)))
    await plugin.startup()
    call = asyncio.create_task(plugin.on_event(event()))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().endswith("\n"))
    pid = int((tmp_path / "child").read_text())
    await plugin.shutdown()
    with pytest.raises(ExecFailed, match=r"^ended by SIG(KILL|TERM)"):
        await call
    await until(lambda: is_gone(pid) and not children())
    with pytest.raises(ExecFailed, match="not started"):
        await plugin.on_event(event())


async def test_shutdown_ends_what_is_being_started(tmp_path: Path) -> None:
    """A program that the system has started, and the plugin does not know of yet."""
    plugin = ExecPlugin(settings_of(tmp_path, configured(SLEEPS)))
    await plugin.startup()
    calls = [asyncio.create_task(plugin.on_event(event(number))) for number in range(4)]
    await asyncio.sleep(0)
    await plugin.shutdown()
    for call in calls:
        with pytest.raises(ExecFailed, match=r"^ended by SIG(KILL|TERM)"):
            await call
    await until(lambda: not children())


async def test_at_most_so_many_run_as_the_table_says(tmp_path: Path) -> None:
    """`concurrency`, as for every plugin; and no zombies afterwards."""
    script = "echo + >> log; until [ $(grep -c + log) -ge 3 ]; do sleep 0.01; done; sleep 0.05; echo - >> log"
    async with sending(tmp_path, configured(script, "concurrency = 3\n")) as rig:
        for number in range(12):
            await rig.send(str(number))
        await rig.idle()
    running = most = 0
    for line in (tmp_path / "log").read_text().splitlines():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert 1 < most <= 3
    assert not children()


async def test_exit_codes_decide_about_events_of_a_running_gateway(tmp_path: Path) -> None:
    """Refused: a dead letter; 75: again, in order."""
    script = """n=$(grep -o '"n": [0-9]*'); echo "$n" >> log
        case "$n" in *2) exit 3;; *3) test "$(grep -c 3 log)" = 3 || exit 75;; esac"""
    options = 'backoff = "1ms"\nbackoff_max = "2ms"\n'
    async with sending(tmp_path, "[plugins.exec]\ncommand = ['./take.sh']\n" + options) as rig:
        (tmp_path / "take.sh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "take.sh").chmod(0o700)
        receipts = [await rig.send("x") for _ in range(4)]
        await rig.idle()
        assert (tmp_path / "log").read_text().split("\n")[:-1] == [f'"n": {n}' for n in (1, 2, 3, 3, 3, 4)]
        [(dead, plugin, attempts, error)] = rig.dead()
        assert (dead, plugin, attempts) == (receipts[1].id, "exec", 1)
        assert error.endswith(": exit code 3")


async def test_a_program_that_cannot_be_started_costs_no_event(tmp_path: Path) -> None:
    async with started(tmp_path, "[plugins.exec]\ncommand = ['./gone']\n") as plugin:
        with pytest.raises(ExecFailed, match=r"^the program cannot be started: No such file or directory$"):
            await plugin.on_event(event())


def test_it_runs_on_the_loop_of_a_plugin_too(tmp_path: Path) -> None:
    """A plugin's loop is uvloop's where that is installed, which starts processes in its own way."""
    plugin = ExecPlugin(settings_of(tmp_path, configured("cat > line; echo no >&2; exit 1", "show_errors = true\n")))

    async def once() -> None:
        await plugin.startup()
        with pytest.raises(Reject, match=r"^exit code 1: no$"):
            await plugin.on_event(event())
        await plugin.shutdown()

    loop = new_loop()
    loop.run_until_complete(once())
    loop.close()
    assert (tmp_path / "line").stat().st_size > 0


async def test_check_finds_a_program_that_cannot_run(tmp_path: Path) -> None:
    """Without running it."""
    assert await check(tmp_path, configured("touch ran")) is None
    assert not (tmp_path / "ran").exists()
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for command, fault in (
        ("no-such-program", "command: there is no program no-such-program on the PATH (/nowhere)"),
        ("./gone", f"command: {tmp_path / 'gone'} does not exist"),
        ("./plain", f"command: {tmp_path / 'plain'} is not a program that this user may run"),
    ):
        text = f"[plugins.exec]\ncommand = ['{command}']\nenvironment = {{ PATH = '/nowhere' }}\ndirectory = 'none'\n"
        assert await check(tmp_path, text) == f"{fault}; directory: {tmp_path / 'none'} is not a directory"


@pytest.mark.parametrize(
    ("table", "path", "message"),
    [
        ("", "command", "is missing"),
        ('command = "python3 take.py"', "command", "expected a program and its arguments such as"),
        ("command = []", "command", "expected a program and its arguments such as"),
        ("command = [1]", "command", "expected a program and its arguments such as"),
        ('command = ["x"]\nenvironment = { EVENT_ID = "1" }', "environment.EVENT_ID", "is set by the plugin"),
        ('command = ["x"]\nenvironment = { "a=b" = "1" }', "environment", "'a=b' is not the name of a variable"),
        ('command = ["x"]\nsecret_environment = { A = "hunter2" }', "secret_environment.A", "a secret must not be in"),
    ],
)
def test_a_faulty_table_is_an_error_at_start(tmp_path: Path, table: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, f"[plugins.exec]\n{table}\n"))
    [problem] = raised.value.problems
    assert f"{problem.path}: {problem.message}".startswith(f"plugins.exec.{path}: {message}")
    assert "hunter2" not in str(raised.value)


def test_forget_says_that_events_were_passed_on(tmp_path: Path) -> None:
    plugin = ExecPlugin(settings_of(tmp_path, configured("exit 0")))
    assert plugin.forget() == "the plugin keeps nothing; what sh made of the events is to be erased there"
