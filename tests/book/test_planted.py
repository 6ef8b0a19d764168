"""Text from models and data sets is shown as text: markup planted in it does nothing."""

import shutil
import subprocess
import sys

import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")

from playwright.sync_api import sync_playwright

from tests import browser
from tsp.book import notebooks
from tsp.paths import ROOT

pytestmark = pytest.mark.browser

PLANTED = '</script></td><img src=x onerror="window.sown=1"><script>window.sown=1</script>'
PAGE = """# %% [markdown]
# # Planted

# %% tags=["parameters"]
runs = ""
planted = ""

# %%
import matplotlib.pyplot as plt
import pandas as pd
from myst_nb import glue

from tsp.figures.interactive import Live
from tsp.book.pages import as_text, missing, stacked, table

frame = pd.DataFrame({planted: [planted]}, index=[planted])
table(frame)

# %%
as_text(frame.set_index([planted, planted], drop=False)).style

# %%
stacked(frame.set_axis(['a'], axis=1))

# %%
frame

# %%
fig, ax = plt.subplots()
ax.plot([1, 2], label=planted)
ax.set(title=planted, xlabel=planted)
plt.close(fig)
clouds = {planted: [[0.1, 0.2], [0.8, 0.5]]}
Live("rips", {"clouds": clouds, "epsilon": 0.3}, still=fig, alt=planted)

# %% tags=["remove-cell"]
glue("planted", planted, display=False)

# %% [markdown]
# It says {glue:text}`planted`.
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A site of one page, whose texts are all hostile."""
    browser.needed()
    root = tmp_path_factory.mktemp("planted")
    (root / "01_planted.py").write_text(PAGE)
    executed = root / "book" / "_executed"
    planted = {"runs": "", "planted": PLANTED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "EXECUTED", executed)
        notebooks.execute_notebook(root / "01_planted.py", parameters=planted)
    for name in ("_static", "_ext", "references.bib"):
        copy = shutil.copytree if (ROOT / "book" / name).is_dir() else shutil.copyfile
        copy(ROOT / "book" / name, root / "book" / name)
    shutil.copyfile(ROOT / "_config.yml", root / "_config.yml")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/_executed/01_planted\n")
    call = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", call, "build", str(root), "-q"]
    subprocess.run(command, check=True, capture_output=True)
    return root / "_build" / "html" / "book" / "_executed"


def test_planted_markup_is_text(pages):
    with (
        sync_playwright() as playwright,
        browser.served(pages.parents[1]) as address,
    ):
        chromium = playwright.chromium.launch(executable_path=browser.needed(), args=browser.QUIET)
        opened = browser.Visit(chromium.new_context(), address)
        opened.go("book/_executed/01_planted.html")
        assert opened.page.evaluate("window.sown") is None
        assert opened.page.locator("img[onerror]").count() == 0
        shown = opened.page.locator("article").inner_text()
        assert shown.count("onerror=") >= 9
        assert opened.wrong == []
        chromium.close()
