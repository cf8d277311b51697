# `make` lists the targets. Each is one line of work; the rest is in scripts/.
PYTHON ?= python3
RUN := .venv/bin/python
TEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist loadfile
EXPERIMENTS := digits plane energy gauge degradation layers distance robustness
export MPLCONFIGDIR ?= $(CURDIR)/_build/matplotlib

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help environment book test lint test-package test-book test-notebooks test-browser \
        notebooks bench results serve offline clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

environment: # .venv with the pinned packages; does nothing where they are there
	@$(PYTHON) scripts/environment.py

book: environment ## execute the chapters and build the pages, strictly
	@$(RUN) scripts/build_book.py

test: lint test-package book test-book test-notebooks test-browser ## everything that CI runs
	@echo "All checks passed."

lint: environment ## ruff: errors and layout
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

test-package: environment ## the package's unit tests, with coverage
	$(TEST) tests --ignore tests/book --ignore tests/browser --cov --cov-report=term --cov-fail-under=90

test-book: book ## pages, notebooks and their links
	$(TEST) tests/book

test-notebooks: book ## run every notebook, compare its outputs
	GEOBOOK_STATIC=1 $(TEST) --nbval notebooks --nbval-sanitize-with tests/nbval_sanitize.cfg

test-browser: book ## the built pages in a real Chromium
	$(TEST) tests/browser

notebooks: book ## write notebooks/ anew from the chapters
	@$(RUN) scripts/update_notebooks.py

bench: environment ## ratios against named alternatives
	$(RUN) benchmarks/sweep.py && $(RUN) benchmarks/dynamic.py && $(RUN) benchmarks/assignment.py

results: environment ## run again what results/ holds
	for name in $(EXPERIMENTS); do $(RUN) -m geobook reproduce $$name --out results || exit 1; done

serve: environment ## build again at every change, show on this machine
	@$(RUN) scripts/serve.py

offline: book ## dist/geobook-offline.zip: the whole book for a room without a network
	@$(RUN) scripts/offline.py

clean: ## drop what was built; .venv stays
	rm -rf _build dist .coverage htmlcov
