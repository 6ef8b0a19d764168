"""Links of a finished site: those that lead nowhere, and those that lead outside."""

import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

PATIENCE = 20  # seconds for an answer


class _Page(HTMLParser):
    """The anchors of a page, and the addresses that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}  # what browsers know without being told
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        own = ("id", "name") if tag == "a" else ("id",)
        self.anchors |= {told[name] or "" for name in own if name in told}
        self.addresses |= {told[name] or "" for name in ("href", "src") if name in told}


def broken_links(site: Path) -> list[str]:
    """Links of a site's pages to files or anchors that are not there.

    Parameters
    ----------
    site
        Folder of the site.

    Returns
    -------
    list of str
        ``"page: address"`` for each, in order.
    """
    pages = _pages(site)
    broken = []
    for path, page in pages.items():
        for address in sorted(page.addresses):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = target not in pages or unquote(parts.fragment) in pages[target].anchors
            if not target.exists() or not known:
                broken.append(f"{path.relative_to(site.resolve())}: {address}")
    return broken


def outside_links(site: Path) -> list[str]:
    """Addresses of other sites that a site's pages name, each once, in order."""
    named = {address for page in _pages(site).values() for address in page.addresses}
    return sorted(it for it in named if urlsplit(it).scheme in ("http", "https"))


def _pages(site: Path) -> dict[Path, _Page]:
    site = site.resolve()
    own = [file.relative_to(site) for file in sorted(site.rglob("*.html"))]
    files = [site / file for file in own if file.parts[0] != "_static"]  # templates, not pages
    return {file: _Page(file.read_text("utf8")) for file in files}


def main(arguments: Sequence[str]) -> int:
    """Ask for every outside link of a site and print the answers: 0 if all are there, else 1."""
    site = Path(arguments[0])
    if not site.is_dir():
        print(f"site = {str(site)!r}: no such folder; `make book` builds it", file=sys.stderr)
        return 2
    dead = 0
    for address in outside_links(site):
        answer = _answer(address)
        dead += answer != str(HTTPStatus.OK.value)
        print(f"{answer}  {address}", flush=True)
    return int(dead > 0)


def _answer(address: str) -> str:
    try:
        asked = Request(address, headers={"User-Agent": "Mozilla/5.0 (links of a book)"})
        with urlopen(asked, timeout=PATIENCE) as found:
            return str(found.status)
    except HTTPError as error:
        return str(error.code)
    except (URLError, OSError) as error:
        return str(getattr(error, "reason", error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
