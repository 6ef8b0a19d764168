"""The whole book as one PDF: the pages of the built site, one after another, from Chromium."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import yaml
from bs4 import BeautifulSoup, Tag

from tsp.atomic import replacing
from tsp.book.notebooks import BookError
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.provenance import commit

WIDE = """() => [...document.querySelectorAll(".chapter table")]
    .map(table => [table, table.closest(".chapter")])
    .filter(([table, chapter]) =>
        table.getBoundingClientRect().right > chapter.getBoundingClientRect().right + 1)
    .map(([table, chapter]) => [chapter.querySelector("h1"), table.caption ?? table.rows[0]]
        .map(part => part?.textContent.trim().replace(/\\s+/g, " ") ?? "?").join(": "))"""
"""Page and caption, or first row, of the tables that are wider than the page."""
TEXT_WIDTH = 665  # of a page in pixels: 176 mm
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ONLY_ON_SCREEN = "script, .prev-next-footer, .headerlink, .copybtn, .download, .above-input"
NUMBER = '<p style="font-size:8px;width:100%;text-align:center" class="pageNumber"></p>'
STYLE = """
@page { size: A4; margin: 18mm 17mm 20mm; }
html { font-size: 75%; }
body { background: white; line-height: 1.4; }
.cover { padding: 80mm 15mm 0; text-align: center; }
.contents, .part, #book-handout, #book-handout + .chapter { break-before: page; }
.chapter > section > h1 { border-top: 1px solid; margin-top: 1.5em; padding-top: 0.5em; }
.contents li { display: flex; gap: 0.5em; list-style: none; }
.contents .dots { flex: 1; border-bottom: 1px dotted; margin-bottom: 0.3em; }
h1, h2, h3, dt, .rubric, caption, thead, thead tr { break-after: avoid; }
:is(h1, h2, h3) + p { break-inside: avoid; break-after: avoid; }
figure, img, svg, tr, thead, pre, .admonition, .sd-row, div.math { break-inside: avoid; }
[id$="--notation"] { break-inside: avoid; }
.claims :is(details, .scale) { break-inside: avoid; }
.claims .scale { break-after: avoid; }
.bd-article.chapter :is(img, svg) { max-height: 115mm; max-width: 100%; object-fit: contain; }
.bd-article.chapter img.tall { max-height: 195mm; }
dl dl.field-list, dl.field-list > dt { display: block !important; }
dl.field-list :is(li, p) { break-inside: avoid; }
pre { font-size: 0.8em; white-space: pre-wrap; }
pre, p, li { overflow-wrap: anywhere; }
.chapter :is(td, th), .chapter :is(td, th) p { overflow-wrap: break-word; }
.chapter :is(td, th) { font-size: 0.85em; }
.chapter table.dataframe { border: 0; }
.chapter table.dataframe td { white-space: normal !important; }
.chapter table.dataframe:has(tr) :is(td, th) { padding: 0.2em 0.3em !important; }
.chapter table.dataframe:has(tr > :nth-child(8)) :is(td, th) { font-size: 0.95em; }
.chapter table.dataframe:has(tr > :nth-child(13)) :is(td, th) { font-size: 0.85em; }
tbody tr:nth-child(-n + 2):not(:last-child) { break-after: avoid; }
tbody tr:nth-last-child(-n + 2):not(:first-child) { break-before: avoid; }
figcaption *, caption * { color: black; font-weight: 400; }
.sd-summary-state-marker { display: none !important; }
"""


def make_pdf(index: Path, out: Path) -> Path:
    """Print a built site as one PDF with a table of contents, page numbers and links.

    A part of the book begins on a new page, a chapter does not.
    Code that the site hides is left out, answers are unfolded, tests are named; what the rows of
    claims fold out to stays folded.

    Parameters
    ----------
    index
        First page of the site, as `tsp.book.site.build` returns it.
    out
        The PDF to write; it appears whole or not at all.

    Raises
    ------
    BookError
        If playwright, pypdf or Chromium is missing, or a table is wider than its page.
    InputError
        If a page of the table of contents has not been built.
    """
    site = index.parent
    pages = book_pages()
    chapters = {page: _chapter(site, page, pages) for page in pages}
    for _, (first, *_) in _parts():
        chapters[first]["class"] = "chapter part bd-article"
    body = "".join(map(str, chapters.values()))
    top = head(site, pages[0], STYLE)
    with printer(site, top, misfits=WIDE, width=TEXT_WIDTH) as printed, replacing(out) as work:
        from pypdf import PdfReader

        numbered = partial(printed, display_header_footer=True, footer_template=NUMBER)
        draft = PdfReader(BytesIO(numbered(_contents(chapters, {}) + body)))
        starts = {
            page: 1 + (draft.get_destination_page_number(draft.named_destinations[name]) or 0)
            for page in pages
            if (name := f"/{_anchor(page)}") in draft.named_destinations
        }
        work.write_bytes(numbered(_contents(chapters, starts) + body))
    return out


@contextmanager
def printer(site: Path, top: str, *, misfits: str, width: int) -> Iterator[Callable[..., bytes]]:
    """Start a browser that prints HTML bodies below a document's `head`, as pages of the site.

    ``misfits`` is a function in JavaScript that names what does not fit on a page, ``width`` of
    which, in pixels, is for text.

    Raises
    ------
    BookError
        If playwright, pypdf or Chromium is missing, or something does not fit.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not (find_spec("playwright") and find_spec("pypdf")):
        raise BookError("the PDF needs playwright and pypdf: pip install '.[dev]'")
    if browser is None:
        raise BookError(f"the PDF needs a browser, one of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory(dir=site) as folder:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": width, "height": width})

        def printed(body: str, **options: Any) -> bytes:
            source = Path(folder) / "book.html"
            source.write_text(f"{top}<body>{body}</body></html>", "utf-8")
            tab.emulate_media(media="print")
            tab.goto(source.resolve().as_uri())
            tab.evaluate("window.MathJax && MathJax.startup.promise")
            if names := tab.evaluate(misfits):
                raise BookError(f"does not fit on its page, shorten it: {'; '.join(names)}")
            return tab.pdf(
                prefer_css_page_size=True,
                print_background=True,
                header_template="<p></p>",
                outline=True,
                tagged=True,
                **options,
            )

        yield printed
        chromium.close()


def book_pages() -> list[str]:
    """Return the site's pages in the order of its table of contents, without endings."""
    return [page for _, part in _parts() for page in part]


def _parts() -> list[tuple[str, list[str]]]:
    """Return the parts of the book, each with its name, if it has one, and its pages.

    The first page is a part of its own.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = ([page["file"] for page in part["chapters"]] for part in toc["parts"])
    names = [part.get("caption", "") for part in toc["parts"]]
    return [("", [toc["root"]]), *zip(names, files, strict=True)]


def _chapter(site: Path, page: str, pages: Sequence[str]) -> Tag:
    """Return a page's article, with names and links as they are in the one document."""
    path = site / f"{page}.html"
    article = BeautifulSoup(path.read_text("utf-8"), "html.parser").article
    if article is None:
        raise InputError("page", path, "has no article; build the book again")
    for fold in article.select("details.sd-dropdown"):
        fold["open"] = ""
        for test in fold.select(".literal-block-wrapper"):
            test.replace_with(_named(test))
    for element in article.select(ONLY_ON_SCREEN):
        element.decompose()
    for image in article.select("img[style]"):
        width, height = map(int, re.findall(r"(\d+)px", f"{image['style']} 0px 0px")[:2])
        if height > 1.2 * width:
            image["class"] = "tall"
    for element in article.select("[id]:not([id^=T_])"):  # those of styled tables are in no link
        element["id"] = f"{_anchor(page)}--{element['id']}"
    relink(article, site, page, pages)
    article.name, article["class"], article["id"] = "section", "chapter bd-article", _anchor(page)
    return article


def _named(test: Tag) -> Tag:
    """Return a line with the file and the name of a test, to print in place of its source."""
    caption = test.select_one(".code-block-caption .caption-text")
    line = Tag(name="p")
    line.append(code := Tag(name="code"))
    functions = re.findall(r"^def (test_\w+)", test.pre.get_text() if test.pre else "", re.M)
    code.string = " ".join([caption.get_text(strip=True) if caption else "", *functions])
    return line


def relink(part: Tag, site: Path, page: str, pages: Sequence[str] = ()) -> None:
    """Let the addresses in a part of a page hold in a document in a folder of the site."""
    for element in part.select("[href], [src]"):
        name = "href" if element.has_attr("href") else "src"
        link = str(element[name])
        if re.match(r"[a-z]+:", link):
            continue
        target, fragment = urldefrag(link)
        path = (site / page).parent / target if target else site / f"{page}.html"
        inside = path.resolve().relative_to(site.resolve())
        linked = str(inside.with_suffix(""))
        element[name] = f"../{inside}"
        if inside.suffix == ".html" and linked in pages:
            element[name] = "#" + _anchor(linked) + (f"--{fragment}" if fragment else "")


def _anchor(page: str) -> str:
    return page.replace("/", "-")


def head(site: Path, page: str, style: str) -> str:
    """Return the beginning of a document with the site's style sheets and typesetting."""
    soup = BeautifulSoup((site / f"{page}.html").read_text("utf-8"), "html.parser")
    for script in soup.select("script"):
        if "mathjax" not in f"{script.get('src', '')}{script.get_text()}".lower():
            script.decompose()
    relink(soup, site, page)
    kept = soup.select("head link[rel=stylesheet], script")
    return (
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{_title(soup)}</title>{''.join(map(str, kept))}<style>{style}</style></head>"
    )


def _title(part: Tag) -> str:
    heading = part.h1.get_text() if part.h1 else ""
    return heading.rstrip("#").strip()


def _edition() -> Iterator[str]:
    """Yield the lines below the title: what the book is, of which paper, and which state of it."""
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    paper, *_ = about["references"]
    yield escape(about["abstract"])
    names = (f"{author['given-names']} {author['family-names']}" for author in paper["authors"])
    authors, title = escape(", ".join(names)), escape(paper["title"])
    yield f"The paper: {authors}, <i>{title}</i>, {paper['year']}"
    version = f"Version {about['version']}, licence {about['license']}"
    yield f"{version}, commit {state}" if (state := commit()[:10]) else version


def _contents(chapters: Mapping[str, Tag], starts: Mapping[str, int]) -> str:
    """Return the title page and the table of contents, with the page a chapter starts on."""
    rows = []
    for name, pages in _parts():
        rows += [f"<li><b>{name}</b></li>"] if name else []
        rows += [
            f'<li><a href="#{_anchor(page)}">{_title(chapters[page])}</a>'
            f'<span class="dots"></span>{starts.get(page, "?")}</li>'
            for page in pages
        ]
    title = next(map(_title, chapters.values()))
    edition = "".join(f"<p>{line}</p>" for line in _edition())
    return (
        f'<section class="cover"><h1>{title}</h1>{edition}</section>'
        f'<section class="contents"><h1>Contents</h1><ol>{"".join(rows)}</ol></section>'
    )
