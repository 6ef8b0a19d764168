"""The whole book as one PDF: the pages of the built site, one after another, printed by Chromium."""

import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urldefrag

import yaml
from bs4 import BeautifulSoup, Tag

from tsp.atomic import replacing
from tsp.book.notebooks import BookError
from tsp.errors import InputError
from tsp.paths import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PRINTED = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html { font-size: 62%; }
body { background: white; }
.chapter { break-before: page; }
h1, h2, h3 { break-after: avoid; }
figure, img, table.dataframe tr, .admonition, div.math { break-inside: avoid; }
.headerlink, .copybtn, .toggle-button, a.download, .live-controls { display: none !important; }
div.cell.tag_hide-input div.cell_input, details.hide summary { display: none; }
pre, td, th, p, li { overflow-wrap: anywhere; }
.contents li { display: flex; gap: 0.5em; }
.contents li::marker { content: none; }
.contents .dots { flex: 1; border-bottom: 1px dotted #888; margin-bottom: 0.3em; }
.cover { text-align: center; padding-top: 30vh; break-after: page; }
"""
FOOTER = (
    '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></div>'
)


def make_pdf(index: Path, out: Path) -> Path:
    """Print a built site as one PDF with a table of contents, page numbers and links.

    Parameters
    ----------
    index
        First page of the site, as `tsp.book.site.build` returns it.
    out
        The PDF to write.

    Raises
    ------
    BookError
        If playwright or Chromium is missing.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BookError("the PDF needs playwright: pip install '.[dev]'") from error
    if browser is None:
        raise BookError("the PDF needs Chromium: install the package `chromium`")
    site = index.parent
    pages = _pages()
    chapters = [_chapter(site, page, pages) for page in pages]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(dir=site) as work:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page()

        def printed(body: str) -> bytes:
            source = Path(work) / "book.html"
            source.write_text(_document(site, body), "utf-8")
            tab.goto(source.resolve().as_uri())
            tab.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
            tab.evaluate("window.MathJax && MathJax.startup.promise")
            about = {"print_background": True, "outline": True, "tagged": True}
            return tab.pdf(
                prefer_css_page_size=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                **about,
            )

        counts = [_page_count(printed(str(chapter))) for chapter in chapters]
        front = _front(chapters, [0] * len(chapters))
        before = _page_count(printed(front))
        starts = [before + 1 + sum(counts[:k]) for k in range(len(counts))]
        book = "".join([_front(chapters, starts), *map(str, chapters)])
        with replacing(out) as part:
            part.write_bytes(printed(book))
        chromium.close()
    return out


def _pages() -> list[str]:
    """Return the site's pages in the order of its table of contents, without endings."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def _chapter(site: Path, page: str, pages: list[str]) -> Tag:
    """Return a page's article; its names and links are those of the one document."""
    path = site / f"{page}.html"
    article = BeautifulSoup(path.read_text("utf-8"), "html.parser").article
    if article is None:
        raise InputError("page", path, "has no article; build the book again")
    for unwanted in article.select("script, .prev-next-footer, .toggle-button"):
        unwanted.decompose()
    for block in article.select("details, .toggle"):
        block["open"] = ""
    for element in article.select("[id]"):
        element["id"] = f"{_slug(page)}--{element['id']}"
    for element in article.select("[href], [src]"):
        name = "href" if element.has_attr("href") else "src"
        element[name] = _address(site, page, element[name], pages)
    article.name = "section"
    article["class"], article["id"] = "chapter bd-content bd-article", _slug(page)
    return article


def _address(site: Path, page: str, link: str, pages: list[str]) -> str:
    """Return where a link of a page leads in the one document, which lies in a folder of the site."""
    if re.match(r"[a-z]+:", link):
        return link
    target, fragment = urldefrag(link)
    path = (site / page).parent / target if target else site / f"{page}.html"
    inside = path.resolve().relative_to(site.resolve())
    name = str(inside.with_suffix(""))
    if inside.suffix == ".html" and name in pages:
        return f"#{_slug(name)}" + (f"--{fragment}" if fragment else "")
    return f"../{inside}"


def _slug(page: str) -> str:
    return page.replace("/", "-")


def _front(chapters: list[Tag], starts: list[int]) -> str:
    """Return the title page and the table of contents, with the first page of each chapter."""
    rows = []
    for chapter, start in zip(chapters[1:], starts[1:], strict=True):
        heading = chapter.h1.get_text().rstrip("#").strip() if chapter.h1 else chapter["id"]
        link = f'<a href="#{chapter["id"]}">{heading}</a>'
        rows.append(f'<li>{link}<span class="dots"></span>{start}</li>')
    title = chapters[0].h1.get_text().rstrip("#").strip() if chapters[0].h1 else ""
    return (
        f'<section class="cover"><h1>{title}</h1></section>'
        f'<section class="contents bd-content"><h1>Contents</h1><ol>{"".join(rows)}</ol></section>'
    )


def _document(site: Path, body: str) -> str:
    """Return an HTML document with the site's own style sheets and typesetting."""
    first = BeautifulSoup((site / f"{_pages()[0]}.html").read_text("utf-8"), "html.parser")
    head = []
    for element in first.select("link[rel=stylesheet], script"):
        source = element.get("href") or element.get("src") or ""
        if element.name == "link" or "mathjax" in source or "MathJax" in element.get_text():
            for name in ("href", "src"):
                if element.has_attr(name):
                    element[name] = _address(site, _pages()[0], element[name], [])
            head.append(str(element))
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"{''.join(head)}<style>{PRINTED}</style></head><body>{body}</body></html>"
    )


def _page_count(pdf: bytes) -> int:
    """Return the number of pages of a PDF that Chromium printed, whose page objects are plain."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
