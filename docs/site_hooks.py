"""What MkDocs does not do by itself for the site: an index of the bundled plugins, pages for files of the repository
that the documents link to, and pictures that follow the colours of the page."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
SHOWN: Final = "files"
"""The folder of the site that shows files of the repository."""
INDEX: Final = "plugins-bundled/README.md"
_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE: Final = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.MULTILINE | re.DOTALL)
_PICTURE: Final = re.compile(r'<img alt="([^"]*)" src="[^"]*?pictures/([a-z-]+)\.svg" ?/?>')
_LANGUAGES: Final = {
    ".py": "python",
    ".toml": "toml",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".json": "json",
    ".conf": "nginx",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name every page of a bundled plugin in the navigation, and at its end those that it forgot."""
    navigation = config.nav or []
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    bundled = [page for page in pages if page.startswith("plugins-bundled/")]
    for section in navigation:
        for place in section.get("Plugins", ()):
            if place.get("Bundled plugins") == INDEX:
                place["Bundled plugins"] = [INDEX, *({Path(page).stem: page} for page in bundled)]
    if forgotten := [page for page in pages if page not in str(navigation)]:
        navigation.append({"More": forgotten})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made: the index of the bundled plugins, and what documents link to outside of `docs/`."""
    files.append(File.generated(config, INDEX, content=_plugins()))
    waiting = [path for file in files.documentation_pages() for path in _linked(_source(file), file.content_string)]
    while waiting:
        path = waiting.pop()
        place = _page_of(path)
        if files.get_file_from_path(place) is None:
            content = _show(path)
            files.append(File.generated(config, place, content=content))
            waiting += _linked(path / "README.md" if path.is_dir() else path, content)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at files of the repository to the pages that show them."""
    source = _source(page.file)
    start = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        path = _target(source, match[1])
        shown = _screenshot(source, match[1]) if path is None else _page_of(path)
        place = match[1] if shown is None else posixpath.relpath(shown, start or ".")
        return f"{place}{match[2] or ''}"

    return "".join(
        part if part.lstrip().startswith("```") else _LINK.sub(replaced, part) for part in _CODE.split(markdown)
    )


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put pictures into the page itself, where they have its colours."""

    def inline(match: re.Match[str]) -> str:
        return f'<span class="picture-frame">{(DOCS / "pictures" / f"{match[2]}.svg").read_text()}</span>'

    return _PICTURE.sub(inline, html)


def _plugins() -> str:
    """The catalogue as a page, with a link to the page of each plugin."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "plugins", "--catalogue", "--markdown"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    linked = re.sub(
        r"^\| `(\w+)`",
        lambda row: f"| [`{row[1]}`]({row[1]}.md)" if _has_page(row[1]) else row[0],
        table,
        flags=re.MULTILINE,
    )
    about = (
        "These come with the gateway. A table `[plugins.NAME]` in `config.toml` turns one on, and `gateway plugins"
        " NAME` lists its settings. [Checking a plugin](../plugins.md#checking-a-plugin) explains the tiers."
    )
    return f"# Bundled plugins\n\n{about}\n\n{linked}"


def _has_page(plugin: str) -> bool:
    return (DOCS / "plugins-bundled" / f"{plugin}.md").exists()


def _source(file: File) -> Path:
    """The file of the repository that a page shows; the folder's README for the page of a folder."""
    place = file.src_uri
    if not place.startswith(f"{SHOWN}/"):
        return DOCS / place
    path = ROOT / place.removeprefix(f"{SHOWN}/")
    return path if path.exists() and path.suffix == ".md" else path.with_suffix("")


def _linked(source: Path, markdown: str) -> Iterator[Path]:
    """What a page links to outside of the pages of `docs/`."""
    for part in _CODE.split(markdown):
        if not part.lstrip().startswith("```"):
            for link in _LINK.finditer(part):
                path = _target(source, link[1])
                if path is not None and _page_of(path).startswith(f"{SHOWN}/"):
                    yield path


def _target(source: Path, link: str) -> Path | None:
    """The file or folder of the repository that a link names, if there is one."""
    path = Path(posixpath.normpath(source.parent / link))
    return path if path.exists() and path.is_relative_to(ROOT) and path.suffix not in (".svg", ".png") else None


def _screenshot(source: Path, link: str) -> str | None:
    """The place in the site of a screenshot that a link names."""
    path = Path(posixpath.normpath(source.parent / link))
    return path.relative_to(DOCS).as_posix() if path.suffix == ".png" and path.exists() else None


def _page_of(path: Path) -> str:
    """The page of the site that shows a file or a folder."""
    if path == DOCS / "plugins-bundled":
        return INDEX
    if path == DOCS:
        return "README.md"
    if path.is_relative_to(DOCS) and path.suffix == ".md":
        return path.relative_to(DOCS).as_posix()
    place = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"{SHOWN}/{place}/README.md"
    return f"{SHOWN}/{place}" if path.suffix == ".md" else f"{SHOWN}/{place}.md"


def _show(path: Path) -> str:
    """A file or a folder as a page."""
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == ".md":
        return path.read_text()
    if path.is_dir():
        if (path / "README.md").exists():
            return (path / "README.md").read_text()
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "__")))
        return f"# {name}\n\n" + "".join(f"- [{entry.name}]({entry.name})\n" for entry in entries)
    return f"# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n````\n"
