"""The documentation as a site: built strictly, so that every page is in the navigation and every link and anchor leads
somewhere; and complete in itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.stem for path in (ROOT / "docs" / "plugins-bundled").glob("*.md"))


class Fetched(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.urls += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]


def test_the_site_is_complete_in_itself(tmp_path: Path) -> None:
    """One build for all of it, since a build takes seconds."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]

    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=110
    )

    assert built.returncode == 0, built.stdout + built.stderr
    assert fetched_from_elsewhere(site) == []
    for name in PLUGINS:
        assert f'<a href="{name}/"><code>{name}</code></a>' in page(site, "plugins-bundled"), name
        assert page(site, f"plugins-bundled/{name}")
    assert "on_inbound_message" in page(site, "files/gateway/hookspecs.py"), "a file that documents link to is shown"
    assert "webio-gateway.socket" in page(site, "files/deploy/systemd"), "a folder that documents link to is shown"
    pictures = re.findall(r'<svg xmlns="[^"]+" class="picture"[^>]*>\s*<title id', page(site, "concepts"))
    assert len(pictures) == 3, "pictures are part of the page, so that they have its colours"


def fetched_from_elsewhere(site: Path) -> list[str]:
    """Fonts, scripts, styles and pictures that a reader's browser would fetch from another server."""
    pages = {url for page in site.rglob("*.html") for url in Fetched(page.read_text()).urls}
    styles = {url for sheet in site.rglob("*.css") for url in re.findall(r"url\([\"']?([^)\"']+)", sheet.read_text())}
    assert len(pages) > 20
    return [url for url in pages | styles if re.match(r"(?:[a-z]+:)?//", url, re.IGNORECASE)]


def page(site: Path, name: str) -> str:
    return (site / name / "index.html").read_text()
