"""The site in a real browser: every page, every moving figure, the search, phone and paper.

What is not marked `slow` is tried on an excerpt, the three chapters with figures to move.
"""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")

import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests import browser
from tsp import TSLoss
from tsp.book import notebooks
from tsp.book import site as book
from tsp.paths import ROOT
from tsp.topology.diagrams import persistence

pytestmark = pytest.mark.browser

PAGES = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
PHONE = {"width": 390, "height": 844}
LIVE = ("01_persistent_homology", "07_tsloss", "08_tsloss_at_work")
EXCERPT = tuple(f"book/_executed/{chapter}" for chapter in LIVE)
RIPS, TSLOSS, PROMPT = (f"{page}.html" for page in EXCERPT)
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def chromium():
    path = browser.needed()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=browser.QUIET)
        yield launched
        launched.close()


def each_page(pages):
    """Values of a parameter: pages that are not in the excerpt take the whole book."""
    slow = [() if page in EXCERPT else pytest.mark.slow for page in pages]
    return [pytest.param(page, marks=marks) for page, marks in zip(pages, slow, strict=True)]


@pytest.fixture(scope="module")
def excerpt_site(tmp_path_factory):
    """Folder of the excerpt, built from the notebooks that the whole book has too."""
    folder = tmp_path_factory.mktemp("excerpt")
    sources = [notebooks.NOTEBOOKS / f"{Path(page).name}.py" for page in EXCERPT]
    notebooks.execute_notebooks(sources, parameters={"runs": os.environ.get("TSP_RUNS", "runs")})
    shutil.copytree(ROOT / "book", folder / "book")
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    chapters = ", ".join(f"file: {page}" for page in EXCERPT[1:])
    parts = f"parts: [{{caption: A part, chapters: [{chapters}]}}]\n"
    toc = f"format: jb-book\nroot: {EXCERPT[0]}\n{parts}"
    (folder / "_toc.yml").write_text(toc)
    call = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", call, "build", folder, "-q"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def excerpt(chromium, excerpt_site):
    """Address of the excerpt."""
    with browser.served(excerpt_site) as address:
        yield address


@pytest.fixture(scope="module")
def site(chromium):
    """Address of the book, brought up to date with what `tsp book` does."""
    first = book.build(runs=Path(os.environ.get("TSP_RUNS") or ROOT / "runs"))
    with browser.served(first.parent) as address:
        yield address


@pytest.fixture
def visit(chromium, request):
    """Open pages of the excerpt, or in slow tests of the book; nothing may go wrong on them."""
    whole = request.node.get_closest_marker("slow")
    site = request.getfixturevalue("site" if whole else "excerpt")
    contexts = []

    def opened(path, **options):
        contexts.append(chromium.new_context(**options))
        made = browser.Visit(contexts[-1], site)
        made.go(path)
        return made

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("path", each_page([*PAGES, "search", "genindex"]))
def test_a_page_is_whole_on_a_phone(visit, path):
    opened = visit(f"{path}.html", viewport=PHONE)
    opened.page.wait_for_load_state("networkidle")  # what is fetched late may fail too
    state = opened.page.evaluate(
        """() => ({
            wide: document.documentElement.scrollWidth,
            formulas: document.querySelectorAll('.math').length,
            drawn: document.querySelectorAll('mjx-container').length,
            wrong: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
            images: [...document.images].filter((it) => it.complete && !it.naturalWidth).length,
            still: [...document.querySelectorAll('.live:not(.live-on)')].length,
            bare: [...document.querySelectorAll('article .cell_output img')]
                .filter((it) => !it.closest('figure') || /_images|^$/.test(it.alt)).length,
        })"""
    )
    assert opened.wrong == []
    assert state["wide"] <= PHONE["width"]
    assert state["drawn"] >= state["formulas"]
    assert (state["wrong"], state["images"], state["still"], state["bare"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", each_page(PAGES))
def test_a_page_is_accessible(visit, path, theme):
    opened = visit(f"{path}.html", color_scheme=theme)
    assert opened.page.evaluate("document.documentElement.dataset.theme") == theme
    assert opened.wrong == []  # before axe asks for style sheets where they are not
    violations = Axe().run(opened.page).response["violations"]
    grave = [each for each in violations if each["impact"] in GRAVE]
    assert [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in grave] == []


SEARCHED = {"minimum spanning tree": "01_persistent_homology", "Holm": "stats.holm"}
SEARCHED |= {"bottleneck": "16_for_the_topologist", "Binder": "setup"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "named"), [(PHONE, True), ({"width": 1280, "height": 800}, False)]
)
def test_a_stacked_cell_shows_its_heading_on_a_phone_alone(visit, size, named):
    opened = visit("book/paper.html", viewport=size)
    row = opened.page.locator("table.stacked").first.locator("tbody tr").first
    assert row.locator("td").all_inner_texts()[1] == ("our choice: " if named else "") + "40"
    assert opened.page.locator("table.stacked thead").first.is_visible() != named


@pytest.mark.slow
@pytest.mark.parametrize("words", SEARCHED)
def test_the_search_finds(visit, words):
    opened = visit(f"search.html?q={words.replace(' ', '+')}", viewport=PHONE)
    links = opened.page.locator("#search-results li a")
    links.first.wait_for()
    first = [link.get_attribute("href") or "" for link in links.all()[:3]]
    assert any(SEARCHED[words] in address for address in first)
    assert opened.wrong == []


@pytest.mark.slow
def test_what_is_searched_for_in_vain_is_told(visit):
    opened = visit("search.html?q=xylophone")
    opened.page.get_by_text("did not match any documents").wait_for()


@pytest.mark.parametrize("path", each_page([page for page in PAGES if "_executed" in page]))
def test_each_figure_offers_its_data(visit, path):
    opened = visit(f"{path}.html")
    drawn = "figure:has(img:not([src$='.svg']), .live) figcaption"  # a sketch has no data
    for caption in opened.page.locator(drawn).all():
        link = caption.locator("a.download")
        assert link.count() == 1, caption.inner_text()
        text = opened.page.request.get(link.evaluate("it => it.href")).text()
        rows = list(csv.DictReader(io.StringIO(text)))
        assert rows
        plotted, bars = {"panel", "kind", "x", "y"}, {"epoch", "dimension", "birth", "death"}
        assert plotted <= rows[0].keys() or bars <= rows[0].keys()


def counts(page):
    """Components and loops as the figure of points tells them."""
    text = page.locator("#live-rips .live-told").inner_text()
    return tuple(int(it) for it in re.findall(r"(\d+) (?:component|loop)", text))


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def place(point):
    """Where a point of a figure is, as it says."""
    return [float(x) for x in re.findall(r"\d\.\d+", point.get_attribute("aria-label"))]


def fingered(opened, *spots):
    """Put a finger down at the first spot and lift it at the last."""
    wire = opened.page.context.new_cdp_session(opened.page)
    for kind, (x, y) in zip(["Start", *["Move"] * len(spots)], spots, strict=False):
        touch = {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y}]}
        wire.send("Input.dispatchTouchEvent", touch)
        opened.drawn()
    wire.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    opened.drawn()


def centred(opened, element):
    """Scroll an element to the middle of the window, at once."""
    element.evaluate("it => it.scrollIntoView({ block: 'center', behavior: 'instant' })")
    opened.drawn()


planes = pytest.mark.parametrize(("page", "figure"), [(RIPS, "live-rips"), (TSLOSS, "live-tsloss")])


@planes
def test_points_obey_the_mouse(visit, page, figure):
    opened = visit(page)
    point = opened.page.locator(f"#{figure} g[role=button]").first
    square = opened.page.locator(f"#{figure} .live-plane")
    square.scroll_into_view_if_needed()
    before = square.locator("canvas").evaluate("it => it.toDataURL()")
    width = square.bounding_box()["width"]
    x, y = middle(point.locator(".live-dot"))
    was = place(point)
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 0.1 * width, y - 0.05 * width, steps=5)
    opened.page.mouse.up()
    opened.page.mouse.move(x, y)  # no longer held
    opened.drawn()
    assert place(point) == pytest.approx([was[0] + 0.1, was[1] + 0.05], abs=0.015)
    assert square.locator("canvas").evaluate("it => it.toDataURL()") != before
    assert opened.wrong == []


@planes
def test_points_obey_a_finger_that_does_not_scroll_then(visit, page, figure):
    opened = visit(page, viewport=PHONE, has_touch=True, is_mobile=True)
    square = opened.page.locator(f"#{figure} .live-plane")
    centred(opened, square)
    point = square.locator("g[role=button]").first
    was, scrolled = place(point), opened.page.evaluate("scrollY")
    x, y = middle(point.locator(".live-dot"))
    way = 90 if was[1] > 0.5 else -90
    fingered(opened, (x, y), (x, y + way / 3), (x, y + way))
    width = square.bounding_box()["width"]
    assert place(point) == pytest.approx([was[0], was[1] - way / width], abs=0.02)
    assert opened.page.evaluate("scrollY") == scrolled
    assert opened.wrong == []


def test_a_finger_beside_the_points_scrolls_the_page(visit):
    opened = visit(RIPS, viewport=PHONE, has_touch=True, is_mobile=True)
    square = opened.page.locator("#live-rips .live-plane")
    centred(opened, square)
    scrolled = opened.page.evaluate("scrollY")
    x, y = middle(square)  # the hole of the ring
    fingered(opened, (x, y), (x, y - 40), (x, y - 90))
    opened.page.wait_for_function("before => scrollY > before", arg=scrolled)


def test_of_points_close_together_the_nearest_is_held(visit):
    opened = visit(RIPS)
    page = opened.page
    opened.click("two groups")
    square = page.locator("#live-rips .live-plane")
    square.scroll_into_view_if_needed()
    for k in (0, 5, 11, 17):
        point = square.locator("g[role=button]").nth(k)
        page.mouse.move(*middle(point.locator(".live-dot")))
        page.mouse.down()
        assert point.evaluate("it => it === document.activeElement")
        page.mouse.up()


@pytest.mark.parametrize("touch", [False, True])
def test_sliders_obey_mouse_and_finger(visit, touch):
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True} if touch else {}
    opened = visit(TSLOSS, **phone)
    page = opened.page
    for slider in page.locator(".live input[type=range]").all():
        before = slider.input_value()
        centred(opened, slider)
        box = slider.bounding_box()
        spot = (box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
        page.touchscreen.tap(*spot) if touch else page.mouse.click(*spot)
        page.wait_for_function(
            "([it, was]) => it.value !== was", arg=[slider.element_handle(), before]
        )
        share = slider.evaluate("it => (it.value - it.min) / (it.max - it.min)")
        assert share == pytest.approx(0.8, abs=0.08)


PICTURE = "document.querySelector('#live-rips canvas').toDataURL()"


def test_the_theme_switch_repaints_the_figures(visit):
    opened = visit(RIPS, color_scheme="light")
    page = opened.page
    before = page.evaluate(PICTURE)
    for _ in range(3):  # automatic, light, dark
        page.locator("button.theme-switch-button").first.click()
        opened.drawn()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(PICTURE) != before


def test_the_points_and_the_scale_obey_the_keyboard(visit):
    opened = visit(RIPS)
    page = opened.page
    points = page.locator("#live-rips g[role=button]")
    points.first.focus()
    before = points.first.get_attribute("aria-label")
    opened.press("Shift+ArrowLeft")
    assert points.first.get_attribute("aria-label") != before
    page.keyboard.press("Space")
    assert points.nth(1).evaluate("it => it === document.activeElement")
    slider = page.locator("#live-rips input[type=range]")
    slider.focus()
    opened.press("Home")
    assert counts(page) == (15, 0)
    opened.press("End")
    assert counts(page) == (1, 0)


def test_each_cloud_to_begin_with_has_its_bars(visit):
    opened = visit(RIPS)
    page = opened.page
    seen = {}
    for button in page.locator("#live-rips .live-choice button").all():
        button.click()
        opened.drawn()
        lines = page.locator("#live-rips .live-bars line")
        seen[button.inner_text()] = [
            lines.and_(page.locator(f".live-{kind}")).count() for kind in ("h0", "h1")
        ]
        assert button.get_attribute("aria-pressed") == "true"
    assert seen["three points"] == [3, 0]
    assert seen["figure eight"] == [20, 2]
    assert seen["at random"][0] == 30


def test_a_loop_is_drawn_while_its_bar_is_pointed_at(visit):
    opened = visit(RIPS)
    page = opened.page
    before = page.evaluate(PICTURE)
    bar = page.locator("#live-rips .live-bars g[role=button]").first
    bar.scroll_into_view_if_needed()
    x, y = middle(bar)
    page.mouse.move(x, y)
    opened.drawn()
    assert page.evaluate(PICTURE) != before
    assert bar.evaluate("it => it.isConnected")
    page.mouse.move(x, y + 60)
    opened.drawn()
    assert page.evaluate(PICTURE) == before
    bar.focus()
    opened.press("Enter")
    assert bar.get_attribute("aria-pressed") == "true"
    assert page.evaluate(PICTURE) != before


def test_bars_of_the_page_are_those_of_giotto(visit):
    page = visit(RIPS).page
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 31, size=200)
    clouds = [rng.normal(size=(n, rng.integers(1, 6))).round(6) for n in sizes]
    clouds[:5] = [np.repeat(clouds[0], 2, axis=0), np.eye(6), np.zeros((3, 2)), *clouds[3:5]]
    answers = page.evaluate(
        """async (clouds) => {
            const it = await import(new URL('_static/live/topology.js', document.baseURI
                .replace(/book\\/.*/, '')).href);
            return clouds.map((cloud) => {
                const { h0, h1 } = it.persistence(it.distances(cloud));
                return [h0.map((bar) => bar.death), h1.map((bar) => [bar.birth, bar.death])];
            });
        }""",
        [cloud.tolist() for cloud in clouds],
    )
    assert len(answers) == 200
    for cloud, (deaths, loops) in zip(clouds, answers, strict=True):
        bars = persistence(cloud)
        finite = bars[0][np.isfinite(bars[0][:, 1]), 1]
        assert sorted(x for x in deaths if x > 0) == pytest.approx(sorted(finite), abs=1e-5)
        long = sorted(tuple(bar) for bar in loops if bar[1] - bar[0] > 1e-5)
        theirs = sorted(tuple(bar) for bar in bars[1].tolist() if bar[1] - bar[0] > 1e-5)
        assert len(long) == len(theirs)
        assert np.allclose(long, theirs, atol=1e-5)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_tsloss_of_the_page_is_that_of_the_package(visit, tau):
    page = visit(TSLOSS).page
    rng = np.random.default_rng(1)
    clouds = [rng.uniform(size=(n, 2)) for n in (2, 3, 6, 9)]
    answers = page.evaluate(
        """async ([clouds, tau]) => {
            const it = await import(new URL('_static/live/tsloss.js', document.baseURI
                .replace(/book\\/.*/, '')).href);
            return clouds.map((cloud) => it.tsloss(cloud, { tau }));
        }""",
        [[cloud.tolist() for cloud in clouds], tau],
    )
    for cloud, mine in zip(clouds, answers, strict=True):
        points = torch.tensor(cloud, requires_grad=True)
        terms = TSLoss(tau=tau).terms(points)
        for name in ("delta", "zeta", "h0", "repel", "attract", "h1", "total"):
            value = getattr(terms, name)
            assert mine[name] == pytest.approx(value.item(), rel=1e-9, abs=1e-14)
        assert np.allclose(mine["s"], terms.soft_nearest.detach(), atol=1e-12)
        for name, term in (("total", terms.total), ("h0", terms.h0), ("repel", terms.repel)):
            (grad,) = torch.autograd.grad(term, points, retain_graph=True)
            assert np.allclose(mine["forces"][name], grad, atol=1e-10)


def table(page):
    cells = page.locator("#live-tsloss .live-terms td").all_inner_texts()
    return dict(zip(("delta", "zeta", "h0", "repel", "attract", "h1", "total"), cells, strict=True))


def test_descent_by_hand_lowers_the_loss_and_stops(visit):
    opened = visit(TSLOSS)
    page = opened.page
    first = table(page)
    labels = page.locator("#live-tsloss g[role=button]")
    at = [place(label) for label in labels.all()]
    terms = TSLoss(tau=0.1, alpha=10.0).terms(torch.tensor(at, dtype=torch.float64))
    for name, shown in first.items():
        assert float(shown) == pytest.approx(getattr(terms, name).item(), rel=0.006)
    seen = [first]
    for _ in range(60):
        opened.click("A step of descent")
        seen.append(table(page))
    losses = [float(it["total"]) for it in seen]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 3
    opened.click("Start again")
    assert table(page) == first
    page.locator("#live-tsloss g[role=button]").first.focus()
    opened.press("Shift+ArrowRight")
    assert table(page) != first
    assert opened.wrong == []


def test_the_prompt_changes_with_the_epoch_and_the_scale(visit):
    opened = visit(PROMPT)
    page = opened.page
    figure = page.locator("#live-prompt")
    bars, captions = figure.locator(".live-bars g").first, figure.locator(".live-told")
    last = bars.inner_html()
    assert any(re.search(r", [1-9]\d* loops?\.", it.inner_text()) for it in captions.all())
    epoch, scale = figure.locator("input[type=range]").all()
    epoch.focus()
    opened.press("Home")
    assert bars.inner_html() != last
    scale.focus()
    opened.press("Home")
    at_zero = r"[1-9]\d* H₁ bars?\. At ε = 0\.0+: 40 components, 0 loops\."
    assert re.fullmatch(at_zero, captions.first.inner_text())
    opened.press("End")
    assert all(it.inner_text().endswith(": 1 component, 0 loops.") for it in captions.all())
    assert figure.locator(".live-title").all_inner_texts() == ["Standard", "+TSLoss"]
    assert opened.wrong == []


def test_thirty_points_move_at_thirty_frames_on_a_slow_processor(visit):
    page = visit(RIPS, viewport=PHONE, device_scale_factor=2).page
    page.get_by_role("button", name="at random").click()
    page.locator("#live-rips .live-plane").scroll_into_view_if_needed()
    wire = page.context.new_cdp_session(page)
    wire.send("Performance.enable")

    def worked():  # the page's thread, in seconds on a processor: the same on a busy machine
        metrics = wire.send("Performance.getMetrics")["metrics"]
        return next(it["value"] for it in metrics if it["name"] == "ThreadTime")

    # What a move costs: the bars, and the drawing that waits for the next frame.
    moves = """many => {
        const points = document.querySelectorAll('#live-rips g[role=button]');
        const wait = window.requestAnimationFrame;
        const waiting = [];
        window.requestAnimationFrame = (draw) => waiting.push(draw);
        for (let k = 0; k < many; k++) {
            const key = k % 2 ? 'ArrowLeft' : 'ArrowUp';
            points[k % 30].dispatchEvent(new KeyboardEvent('keydown', { key }));
            waiting.splice(0).forEach((draw) => draw(0));
        }
        window.requestAnimationFrame = wait;
        return [...points].map((it) => it.getAttribute('aria-label'));
    }"""
    before = page.evaluate(moves, 30)  # and the scripts are compiled
    rounds = []
    for _ in range(6):  # the least counts: what shares the processor only adds
        begun = worked()
        page.evaluate(moves, 30)
        rounds.append((worked() - begun) / 30)
    assert page.evaluate(moves, 1) != before
    assert min(rounds) < 1 / 30 / 4  # of a processor four times as slow


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_paper_figures_are_pictures_and_letters_are_black(visit, theme):
    page = visit(RIPS, color_scheme=theme).page
    page.emulate_media(media="print")
    assert not page.locator("#live-rips .live-stage").is_visible()
    assert page.locator("#live-rips .live-still").is_visible()
    style = page.evaluate(
        """() => ({
            letters: getComputedStyle(document.querySelector('article p')).color,
            filter: getComputedStyle(document.querySelector('figure img')).filter,
            split: getComputedStyle(document.querySelector('figure')).breakInside,
        })"""
    )
    assert style == {"letters": "rgb(0, 0, 0)", "filter": "none", "split": "avoid"}


@pytest.mark.slow
def test_the_site_is_small_enough_to_carry(site):
    files = [it for it in (ROOT / "_build" / "html").rglob("*") if it.is_file()]
    assert sum(it.stat().st_size for it in files) < 60e6


@pytest.mark.slow
def test_the_handout_is_printed_on_one_sheet(visit):
    from pypdf import PdfReader

    page = visit("book/handout.html").page
    margin = dict.fromkeys(("top", "right", "bottom", "left"), "10mm")
    assert len(PdfReader(io.BytesIO(page.pdf(format="A4", margin=margin))).pages) == 2


def test_without_scripts_the_pictures_are_there(chromium, excerpt):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(f"{excerpt}/{RIPS}")
    assert page.locator("#live-rips .live-still").is_visible()
    page.close()


def printed(call, site, folder):
    """The PDF that a call makes of a site, in a process of its own: each has one playwright."""
    from pypdf import PdfReader

    code = f"""
from pathlib import Path
from tsp.book import pdf, slides
pdf.ROOT = Path({str(site.parents[1])!r})
{call}(Path({str(site / "index.html")!r}), Path("out.pdf"))
"""
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return PdfReader(folder / "out.pdf")


def test_the_pdf_holds_each_page_under_its_number_and_links_that_lead_somewhere(
    excerpt_site, tmp_path
):
    reader = printed("pdf.make_pdf", excerpt_site, tmp_path)
    texts = [page.extract_text() for page in reader.pages]
    assert "A part" in texts[1]
    for page in EXCERPT:
        heading = re.search("<h1>(.*?)<", (excerpt_site / f"{page}.html").read_text()).group(1)
        anchor = reader.named_destinations["/" + page.replace("/", "-")]
        number = reader.get_destination_page_number(anchor)
        assert heading in texts[number]
        assert re.search(rf"{heading}\s*{number + 1}\b", texts[1])
    links = [
        note["/Dest"]
        for page in reader.pages
        for note in page.get("/Annots", ())
        if "/Dest" in note
    ]
    assert links
    assert set(map(str, links)) <= set(reader.named_destinations)


SLIDES = """# A talk

With words and $x^2$

## A figure and an exercise

- a bullet of {glue:text}`01_persistent_homology::pe-three:.2f`

![](live-rips)
![](ex-line)
"""


def test_each_slide_is_a_page_with_what_the_site_has(excerpt_site, tmp_path):
    source = excerpt_site.parents[1] / "book" / "slides.md"
    source.write_text(SLIDES)
    title, slide = printed("slides.make_slides", excerpt_site, tmp_path).pages
    assert title.mediabox.width / title.mediabox.height == pytest.approx(16 / 9, rel=0.01)
    assert "With words" in title.extract_text()
    shown = slide.extract_text()
    for words in ("a bullet of 0.68", "points on a line"):
        assert words in shown
    assert "Points to move" not in shown  # a caption
    assert slide.images
    source.write_text("## One\n\nfits\n\n## Two\n\n" + "a paragraph\n\n" * 20)
    with pytest.raises(AssertionError, match=r"does not fit on its page, shorten it: Two\s"):
        printed("slides.make_slides", excerpt_site, tmp_path)
    missing = {
        "![](fig-nowhere)": "label = 'fig-nowhere': no page of the",
        "{glue:text}`99::x`": "glue = '99::x': no chapter of the",
    }
    for shown, message in missing.items():
        source.write_text(f"## A slide\n\n{shown}\n")
        with pytest.raises(AssertionError, match=f"InputError: {message}"):
            printed("slides.make_slides", excerpt_site, tmp_path)
