"""The tests that hold a promise, as they stand in the repository.

A directive ``held`` has lines ``FILE::FUNCTION``, the file in ``tests/``: their source, folded, and
a link to a copy of each file.
A test that does not exist any more stops the build.
"""

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FENCE = "::::"


class Held(SphinxDirective):
    """The tests of one promise."""

    has_content: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Fold the source of every test that is named."""
        named = [line.strip().split("::") for line in self.content if line.strip()]
        up = "../" * self.env.docname.count("/")
        lines = [f"{FENCE}{{dropdown}} Checked by {_counted(len(named))}"]
        for file, function in named:
            path = Path(self.env.srcdir, "tests", file)
            if not path.is_file() or f"def {function}(" not in path.read_text():
                raise self.error(f"there is no test {file}::{function}")
            lines += [f":::{{literalinclude}} {up}tests/{file}", f":pyobject: {function}"]
            caption = f"{{download}}`tests/{file} <{up}tests/{file}>`"
            lines += [":language: python", f":caption: '{caption}'", ":::"]
        around = nodes.container()
        source, line = self.get_source_info()
        text = StringList([*lines, FENCE], source=source)
        self.state.nested_parse(text, line, around)
        return around.children


def _counted(many: int) -> str:
    return "a test" if many == 1 else f"{many} tests"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("held", Held)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
