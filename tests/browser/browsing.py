"""Chromium, and its tabs: each keeps what its pages complain of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, StorageState, sync_playwright

VARIABLE = "WEBIO_GATEWAY_CHROMIUM"
WITHIN = 90_000.0
"""Milliseconds that a tab waits for what must come about, on a busy machine, too."""
REPORT = (
    "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
)
Session = StorageState


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium that `WEBIO_GATEWAY_CHROMIUM` names, or the one on the path. Without one the test is skipped; in CI
    (`CI=true`) it fails."""
    path = os.environ.get(VARIABLE) or shutil.which("chromium")
    if path is None:
        message = f"no chromium on the path, and {VARIABLE} names none"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A tab in a profile of its own (cookies, colours, size). `faults` has what the console says of errors, failures
    of scripts, and reports of the content security policy."""

    def __init__(
        self, browser: Browser, url: str, *, dark: bool = False, width: int = 1280, session: Session | None = None
    ) -> None:
        """With `session`, which another tab has kept, the tab is signed in."""
        self.url = url
        self.faults: list[str] = []
        self._context = browser.new_context(
            base_url=url,
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 800},
            storage_state=session,
        )
        self._context.set_default_timeout(WITHIN)
        self._context.add_init_script(REPORT)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.text} ({message.location.get('url')})")

    def go(self, path: str) -> None:
        """Load a page, and wait until its script has run."""
        self.page.goto(path)

    def sign_in(self, password: str) -> None:
        self.go("/sign-in")
        self.page.get_by_label("password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")

    def session(self) -> Session:
        """What the browser keeps of its sign-in."""
        return self._context.storage_state()

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    def wait_for(self, text: str) -> None:
        """Wait until the content has this text."""
        self.main.get_by_text(text).first.wait_for()

    @property
    def path(self) -> str:
        return self.page.url.removeprefix(self.url)

    @property
    def focused(self) -> str:
        """The text, the label or the name of what has the focus."""
        script = """() => { const one = document.activeElement;
            return one.textContent.trim() || one.labels?.[0]?.textContent || one.ariaLabel || one.tagName; }"""
        return str(self.page.evaluate(script))

    def press_until_focused(self, key: str, wanted: str, most: int = 60) -> None:
        """Press a key, such as Tab, until what has this text has the focus."""
        seen = []
        for _ in range(most):
            self.page.keyboard.press(key)
            seen.append(self.focused)
            if seen[-1] == wanted:
                return
        raise AssertionError(f"{key} does not lead to {wanted!r}, but to {seen}")

    def overflow(self) -> int:
        """The pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def unusable(self) -> list[str]:
        """What axe calls serious or critical: the rule and the element."""
        self.page.evaluate(_axe())  # by the protocol of the developer tools, so the page's own policy stays in force
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert found["passes"], "axe tried nothing"
        return [
            f"{rule['id']}: {node['html']}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def close(self) -> None:
        self._context.close()


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
