"""The slides of the course: words from ``book/slides.md``, figures from the built site."""

import json
import re
from ast import literal_eval
from functools import partial
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from tsp.atomic import replacing
from tsp.book import pdf
from tsp.errors import InputError

SLIDE = re.compile(r"^(?=#+ )", re.MULTILINE)  # a slide begins with a heading
SHOWN = re.compile(r"^!\[\]\((.+)\)$", re.MULTILINE)  # a label of the book
GLUED = re.compile(r"\{glue:text\}`(\w+)::([\w-]+)(?::([^`]+))?`")  # chapter, name, format
RECORD = "application/papermill.record/text/plain"
CUT = """() => [...document.querySelectorAll(".slide")]
    .filter(box => box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1)
    .map(box => box.querySelector("h1, h2")?.textContent ?? "?")"""
"""Headings of the slides whose content is larger than they are."""
STYLE = """
@page { size: 1280px 720px; margin: 0; }
body { background: white; font-size: 28px; line-height: 1.35; }
.slide { box-sizing: border-box; height: 720px; padding: 40px 64px; overflow: hidden; }
.slide { break-after: page; position: relative; display: flex; flex-direction: column; }
.slide:last-child { break-after: auto; }
.slide > :is(h1, h2) { font-size: 40px; margin: 0 0 22px; }
.slide > h1 { font-size: 60px; margin-top: 200px; }
.slide > div { display: flex; gap: 36px; flex: 1; min-height: 0; }
.slide > footer { position: absolute; right: 64px; bottom: 14px; font-size: 14px; }
.words { flex: 3; }
.words:has(.math.block) { flex: 7; }
.words li { margin-bottom: 0.5em; }
.words table { margin: 0 0 1em; }
.words :is(td, th) { border-bottom: 1px solid; padding: 0.2em 0.8em; }
.shown { flex: 6; display: flex; gap: 24px; min-width: 0; }
.shown > [id] { flex: 1; margin: 0; min-width: 0; }
.shown > :not(figure) { align-self: flex-start; }
.shown:only-child > .admonition { font-size: 34px; }
.shown > section > h2 { display: none; }
.shown .admonition-title { padding-left: 1.8em !important; }
.shown summary { font-size: 24px !important; }
.shown .sd-summary-state-marker { display: none !important; }
.shown > figure[id] { padding: 0; }
.shown figure[id], .shown figure div { display: flex; flex-direction: column; min-height: 0; }
.shown figure div { flex: 1; }
.shown img { flex: 1; min-height: 0; width: 100% !important; height: 100% !important; }
.shown img { max-height: none; object-fit: contain; }
"""


def make_slides(index: Path, out: Path) -> Path:
    """Print the slides of the course, one on a page; as `tsp.book.pdf.make_pdf` prints the book.

    ``![](label)`` shows what has the label in the site, a figure without its caption;
    ``{glue:text}`CHAPTER::NAME:FORMAT` `` is a number or sentence that a chapter glues.

    Raises `InputError` if a slide shows what has no place in the site, `BookError` if its content
    is larger than it.
    """
    site = index.parent
    slides = SLIDE.split((pdf.ROOT / "book" / "slides.md").read_text("utf-8"))[1:]
    body = "".join(_slide(site, source, number) for number, source in enumerate(slides, 1))
    head = pdf.head(site, pdf.book_pages()[0], STYLE)
    with pdf.printer(site, head, misfits=CUT, width=1280) as printed, replacing(out) as work:
        work.write_bytes(printed(f"<main>{body}</main>"))
    return out


def _slide(site: Path, source: str, number: int) -> str:
    """Return a slide's HTML: its heading, and below it its words beside its figures."""
    markdown = MarkdownIt().enable("table").use(dollarmath_plugin, renderer=_formula)
    heading, _, rest = GLUED.sub(partial(_glued, site), source).partition("\n")
    parts = {
        "words": markdown.render(SHOWN.sub("", rest)).strip(),
        "shown": "".join(_labelled(site, label) for label in SHOWN.findall(rest)),
    }
    columns = (f'<div class="{name}">{html}</div>' for name, html in parts.items() if html)
    return (
        f'<section class="slide">{markdown.render(heading)}<div>{"".join(columns)}</div>'
        f"<footer>{number}</footer></section>"
    )


def _formula(content: str, options: dict[str, bool]) -> str:
    """Return a formula as the site's typesetting expects it."""
    return escape(rf"\[{content}\]" if options["display_mode"] else rf"\({content}\)")


def _glued(site: Path, match: re.Match[str]) -> str:
    """Return what a chapter has glued under a name, in a format."""
    chapter, name, form = match.groups(default="")
    source = site / "_sources" / "book" / "_executed" / f"{chapter}.ipynb"
    cells = json.loads(source.read_text("utf-8"))["cells"] if source.is_file() else []
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        if output.get("metadata", {}).get("scrapbook", {}).get("name") == name:
            record = "".join(output["data"][RECORD])
            return format(float(record), form) if form else str(literal_eval(record))
    raise InputError("glue", f"{chapter}::{name}", "no chapter of the site has it")


def _labelled(site: Path, label: str) -> str:
    """Return the HTML of the figure, table, exercise or proposition with a label."""
    for page in pdf.book_pages():
        text = (site / f"{page}.html").read_text("utf-8")
        name = f'id="{label}"'
        if name in text and (part := BeautifulSoup(text, "html.parser").select_one(f"[{name}]")):
            for element in part.select(f"{pdf.ONLY_ON_SCREEN}, figcaption, .live script"):
                element.decompose()
            pdf.relink(part, site, page)
            for link in part.select("a"):
                link.unwrap()  # their targets are not on the slides
            return str(part)
    raise InputError("label", label, "no page of the site has it; see book/slides.md")
