# make book: fresh clone to rendered book. make test: the tests. Both set themselves up in .venv.
# The first interpreter that can make a virtual environment and has a fitting version.
CAN := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c "$(CAN)" 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODEL := smollm2-135m-instruct

.PHONY: setup book pdf slides test test-slow torture bench bench-gpu lint links clean

# Python compiles the modules that are imported, and keeps them: compiling all takes a minute more, and
# without what this variable prevents each chapter and many tests would compile theirs again.
unexport PYTHONDONTWRITEBYTECODE

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[book,dev]'
	$(BIN)/tsp model install $(MODEL)
	touch $@

book: setup
	$(BIN)/tsp model install $(MODEL)
	$(BIN)/tsp sweep table3 --profile quick
	$(BIN)/tsp book

# The book as one PDF: needs Chromium.
pdf: setup
	$(BIN)/tsp book --pdf book.pdf

# The slides of the course: needs Chromium.
slides: setup
	$(BIN)/tsp book --slides slides.pdf

# Two processes; the tests of a file share one, so that what they need is made once.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# Two hundred kills; the targets above try a sample of them.
torture: setup
	$(BIN)/python -m pytest -m torture

bench: setup
	$(BIN)/tsp bench --json bench.json

# Banks of 1 to 256 runs, on a GPU; a second call goes on where the first ended. Needs no network: where
# .venv is missing it runs in the Python that is there, which needs torch, peft and the installed model.
bench-gpu:
	$(if $(wildcard $(READY)),$(BIN)/python,$(PYTHON)) -m tsp bench --gpu data/measurements/gpu.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Links to other sites, by Sphinx's linkcheck: needs a network, and executed notebooks (make book).
links: setup
	$(BIN)/jupyter-book build . --builder linkcheck

clean:
	rm -rf _build book/_executed .pytest_cache .ruff_cache .mypy_cache .hypothesis
