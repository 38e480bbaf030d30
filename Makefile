# `make` alone lists the targets.
PYTHON ?= python3
EXTRAS ?=
TASK ?=
SUITE ?= quick
METHOD ?= vfo-bin
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup lint format test test-slow bench bench-full data verify experts ladder plots claims tables \
  submission leaderboard perf wheel lock clean

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub("%", "<suite>", $$1); printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.done $(EXTRAS:%=.venv/.extra-%)  ## create .venv from the lock (EXTRAS=cuda12 for a GPU)

.venv/.done: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make setup PYTHON=python3.12" >&2; exit 2; }
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --clear --python $(PYTHON) .venv && \
	  uv pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r requirements.lock && \
	  uv pip install --quiet --python $(PY) --no-deps -e . ; \
	else \
	  $(PYTHON) -m venv --clear .venv && \
	  $(PY) -m pip install --quiet --require-hashes -r requirements.lock && \
	  $(PY) -m pip install --quiet --no-deps -e . ; \
	fi
	@touch $@

.venv/.extra-%: .venv/.done
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PY) -e ".[$*]"; \
	else $(PY) -m pip install --quiet -e ".[$*]"; fi
	@touch $@

lint: setup  ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m basedpyright --level error

format: setup  ## fix style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: setup lint  ## install, lint and test, in 15 minutes on two cores
	$(PY) -m pytest -q -n auto --dist loadfile

test-slow: setup  ## run the scientific checks, for hours
	XLA_FLAGS= $(PY) -m pytest -q -m slow

bench: setup  ## run the quick suite with its figures and its page, in ten minutes on two cores
	$(PY) -m sibench.bench --suite quick
	$(PY) -m plots --suite quick --results runs/results --out runs/figures
	$(PY) -m sibench.leaderboard render
	@echo "figure: runs/figures/improvement-quick.png   page: runs/site/index.html   results: runs/results/quick"

bench-full: $(addprefix bench-,sibench bimodal self-improve temperature mixture sqil ablations nce demos \
              manipulation manipulation-images manipulation-self-improve)  ## run the paper's protocol

bench-%: setup  ## run any suite, such as bench-sibench
	$(PY) -m sibench.bench --suite $*

data: setup  ## build the random, expert and ladder datasets (TASK="hopper ant" for some)
	$(PY) -m data_gen.collect $(if $(TASK),--task $(TASK))

verify: setup  ## check every dataset on this machine, and replay some episodes
	$(PY) -m sibench.data verify

experts: setup  ## train the experts anew, into runs/experts, for hours (TASK=hopper for one)
	$(PY) -m data_gen.experts $(if $(TASK),--task $(TASK))

ladder: setup  ## train the behaviour policies anew, into runs/ladder, for hours (TASK=hopper for one)
	$(PY) -m data_gen.ladder $(if $(TASK),--task $(TASK))

plots: setup  ## draw every figure from the committed results
	$(PY) -m plots

JUDGED := small small-walker2d small-halfcheetah small-bimodal small-temperature small-mixture small-sqil \
          small-self-improve small-manipulation small-manipulation-self-improve small-manipulation-images

claims: setup  ## judge the paper's claims by the committed results, and draw their page
	$(PY) -m sibench.analysis.claims --suites $(JUDGED) --markdown results/claims.md
	$(PY) -m sibench.leaderboard render --results results --out results/leaderboard.html

tables: setup  ## regenerate the tables in README.md, results/ and docs/
	$(PY) -m sibench.analysis.tables update README.md results/README.md docs/*.md

submission: setup  ## make and check a submission (SUITE=quick METHOD=vfo-bin)
	$(PY) -m sibench.leaderboard new --suite $(SUITE) --method $(METHOD) --policies runs/bench/$(SUITE)/policies
	$(PY) -m sibench.leaderboard validate submissions/$(SUITE)-$(METHOD)

leaderboard: setup  ## draw the page of all submissions and results, runs/site/index.html
	$(PY) -m sibench.leaderboard render

perf: setup  ## measure physics, rollouts and learners
	$(PY) tests/perf.py
	$(PY) tests/perf_learners.py

wheel: setup  ## build the wheel into dist/
	$(PYTHON) -m pip wheel --no-deps --quiet --wheel-dir dist .

lock:  ## resolve requirements.lock anew
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --generate-hashes --no-header -o requirements.lock

clean:  ## remove .venv and caches
	rm -rf .venv .cache .pytest_cache .ruff_cache
