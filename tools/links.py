"""Hold a built site to its word: links lead somewhere and to every page, and nothing is fetched from elsewhere.

    python tools/links.py site

Prints a line for each fault, and ends with 1 if there is one. Links to other sites are not followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
"""What a browser loads with a page."""


class Page(HTMLParser):
    """Anchors and links of a page.

    Attributes:
        anchors: Values of ``id`` and ``name``.
        links: Addresses that a reader may follow or a browser loads.
        fetched: Those of them that a browser loads.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every element."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        loaded = {
            given[name] for of, name in FETCHED if of == tag and name in given and given.get("rel") != "canonical"
        }
        self.fetched |= loaded
        self.links |= loaded | ({given["href"]} if tag == "a" and "href" in given else set())


def faults(site: Path) -> Iterator[str]:
    """A line for each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    reached = {site / "index.html", site / "404.html"}
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        if where == "404.html":  # its links start from the root of a server
            continue
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched and parts.scheme != "data":
                    yield f"{where}: fetches {link}"
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target = target / "index.html"
            if target != path:
                reached.add(target)
            if not target.is_file():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: {link}: the page has no such place"
    yield from (f"{path.relative_to(site).as_posix()}: no page leads to it" for path in pages if path not in reached)


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "every link leads somewhere, nothing is fetched from elsewhere")
    sys.exit(bool(found))
