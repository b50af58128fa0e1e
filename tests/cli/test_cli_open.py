"""`gateway open`, and the link that `gateway run` prints on a terminal: it signs a browser in once."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from asgi import in_process
from cli_process import CliProcess
from machine import watch_group
from running import RunningGateway, eventually, on_a_terminal, running, write_config
from test_admin import HOST, basic
from test_dashboard import Page, see

PASSWORD = "a password of the tests"
ADMIN = 'password = { file = "password" }\nviewer_password = { file = "viewer" }'
LINK = re.compile(r"http://127\.0\.0\.1:\d+/sign-in/link/[\w-]{43}")


def write_passwords(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("password", PASSWORD), ("viewer", "the viewer's password")):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("open")
    write_passwords(directory)
    with running(directory, admin=ADMIN) as gateway:
        yield gateway


def test_a_link_signs_in_once(served: RunningGateway) -> None:
    """It leads to the first page at once and is told to no other site; a second time it leads to the sign-in."""
    url = served.cli("open", "--print").stdout.strip()
    assert LINK.fullmatch(url)
    with httpx.Client() as browser:
        answer = browser.get(url)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")
        assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["set-cookie"].split("; "))
        assert "Sign out" in browser.get(f"{served.admin_url}/").text
    with httpx.Client() as other:
        answer = other.get(url)
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
        assert "this link was used already" in answer.text
        assert other.get(f"{served.admin_url}/sign-in/link/{'x' * 43}").status_code == 401
        assert other.get(f"{served.admin_url}/").status_code == 401
    assert url.rpartition("/")[2] not in served.text
    assert served.text.count(": sign-in by a link (everything): done") == 1


def test_what_programs_get(served: RunningGateway) -> None:
    """One JSON document."""
    assert LINK.fullmatch(json.loads(served.cli("open", "--json").stdout)["url"])


def test_it_opens_a_browser_where_there_is_one(served: RunningGateway, tmp_path: Path) -> None:
    """On a terminal with a screen; not with --print, and not in a pipe."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o700)
    screen = {"DISPLAY": ":9", "BROWSER": f"{browser} %s", "WAYLAND_DISPLAY": ""}
    code, shown = on_a_terminal(["open", "-c", served.config_path], environment=screen)
    [url] = LINK.findall(shown)
    assert code == 0
    eventually(seen.exists)
    eventually(lambda: seen.read_text().strip() == url)
    seen.unlink()
    for options, environment in ((["--print"], screen), ([], {**screen, "DISPLAY": ""})):
        code, shown = on_a_terminal(["open", "-c", served.config_path, *options], environment=environment)
        assert (code, len(LINK.findall(shown)), seen.exists()) == (0, 1, False)


def test_only_an_operator_makes_a_link(served: RunningGateway) -> None:
    """Neither a viewer nor one without a password."""
    with httpx.Client(base_url=served.admin_url) as client:
        assert client.post("/api/sign-in-link", json={}).status_code == 401
        for password, status in (("the viewer's password", 403), (PASSWORD, 200)):
            assert client.post("/api/sign-in-link", json={}, auth=("", password)).status_code == status


def test_where_no_gateway_runs(tmp_path: Path) -> None:
    """It says how to start one; where no password is set, the link is that of the first page."""
    path = write_config(tmp_path)
    code, shown = on_a_terminal(["open", "-c", path])
    assert (code, "start it with `gateway run`" in " ".join(shown.split())) == (1, True)
    with running(tmp_path / "open") as gateway:
        assert gateway.cli("open").stdout == f"{gateway.admin_url}/\n"


async def test_a_link_ends(tmp_path: Path) -> None:
    """After 5 minutes; and the twentieth link after it ends it, too."""
    write_passwords(tmp_path)
    now = [1000.0]
    operator = basic(f"x:{PASSWORD}".encode())
    async with in_process(tmp_path, admin=ADMIN, clock=lambda: now[0]) as gateway:

        async def link() -> str:
            answer = await gateway.manage("POST", "/api/sign-in-link", {}, [HOST, operator])
            return str(answer.document["path"])

        first, second = await link(), await link()
        assert first != second
        now[0] += 299
        assert (await see(gateway, first)).status == 303
        now[0] += 1
        refused = await see(gateway, second)
        assert refused.status == 401
        assert Page(refused.body.decode()).all("form")  # the way to sign in all the same
        many = [await link() for _ in range(21)]
        assert [(await see(gateway, path)).status for path in (many[0], many[1])] == [401, 303]


def test_run_prints_a_link_on_a_terminal_only(served: RunningGateway, tmp_path: Path) -> None:
    """Not in a pipe, where it would stay in a file."""
    assert "/sign-in/link/" not in served.text
    write_passwords(tmp_path)
    terminal, ours = pty.openpty()
    arguments: list[str | Path] = ["run", "-c", write_config(tmp_path, admin=ADMIN)]
    process = CliProcess(arguments, stdin=ours, stdout=ours, stderr=ours, new_session=True)
    watch_group(process.pid)
    os.close(ours)
    seen = ""
    while not (found := LINK.search(seen)) or "ready after" not in seen:
        seen += os.read(terminal, 65536).decode()
    with httpx.Client() as browser:
        assert browser.get(found[0]).headers["location"] == "/"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    os.close(terminal)
