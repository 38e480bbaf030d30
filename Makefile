# `make` alone prints what there is.
PYTHON ?= python3
EXTRAS ?=
TASK ?=
SUITE ?= quick
METHOD ?= vfo-bin
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup lint format test test-slow bench bench-full data verify experts ladder plots claims submission \
  leaderboard perf lock clean

help:  ## print this
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub("%", "<suite>", $$1); printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.done $(EXTRAS:%=.venv/.extra-%)  ## make .venv from the lock (EXTRAS=cuda12 for a GPU)

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

lint: setup  ## check style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup  ## mend style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: setup lint  ## install, lint and test
	$(PY) -m pytest -q -n auto --dist loadfile

test-slow: setup  ## the scientific checks, for hours
	XLA_FLAGS= $(PY) -m pytest -q -m slow

bench: setup  ## the quick suite, its figures and its page, in ten minutes on two processors
	$(PY) -m sibench.bench --suite quick
	for figure in improvement returns score convergence; do \
	  $(PY) plots/$$figure.py --suite quick --results runs/results --out runs/figures || exit 1; done
	$(PY) -m sibench.leaderboard render
	@echo "figure: runs/figures/improvement-quick.png   page: runs/site/index.html   results: runs/results/quick"

bench-full: $(addprefix bench-,sibench bimodal self-improve temperature mixture sqil ablations nce demos \
              manipulation manipulation-images manipulation-self-improve)  ## the paper's protocol

bench-%: setup  ## run any suite, such as bench-sibench
	$(PY) -m sibench.bench --suite $*

data: setup  ## make the random, expert and ladder datasets (TASK="hopper ant" for some)
	$(PY) -m data_gen.collect $(if $(TASK),--task $(TASK))

verify: setup  ## check every dataset on this machine, replays included
	$(PY) -m sibench.data verify

TASKS = $(or $(TASK),$(shell $(PY) -m sibench.tables tasks | sed -n 's/^| `\([a-z0-9]*\)-v.*/\1/p'))

# what the shipped ones were trained with, in place of the defaults; their cards have all of it
EXPERT_ant := --num-updates 440000 --learning-rate 6e-4 --eval-every 40000
EXPERT_halfcheetah := --num-updates 520000 --seed 1
EXPERT_hopper := --num-updates 400000 --target-entropy 0.5
EXPERT_walker2d := --num-updates 240000

experts: setup  ## train the experts anew, into runs/experts (hours)
	$(foreach task,$(TASKS),$(PY) -m data_gen.experts --task $(task) $(EXPERT_$(task)) &&) true

ladder: setup  ## train the behaviour policies anew, clones of the shipped experts, into runs/ladder (hours)
	for task in $(TASKS); do $(PY) -m data_gen.ladder --task $$task || exit 1; done

plots: setup  ## draw every figure from the files in the repository
	for figure in plots/*.py; do $(PY) $$figure || exit 1; done
	$(PY) plots/improvement.py --suite small small-walker2d small-halfcheetah --together locomotion \
	  --methods bc bco vfo-bin vfo-disc awr smodice-kl dilo

JUDGED := small small-walker2d small-halfcheetah small-bimodal small-temperature small-mixture small-sqil \
          small-self-improve small-manipulation small-manipulation-self-improve small-manipulation-images

claims: setup  ## what the paper says of the repository's results, and their page: results/claims.md, leaderboard.html
	$(PY) -m sibench.claims --suites $(JUDGED) --markdown results/claims.md
	$(PY) -m sibench.leaderboard render --results results --out results/leaderboard.html

submission: setup  ## make and check a submission (SUITE=quick METHOD=vfo-bin)
	$(PY) -m sibench.leaderboard new --suite $(SUITE) --method $(METHOD) --policies runs/bench/$(SUITE)/policies
	$(PY) -m sibench.leaderboard validate submissions/$(SUITE)-$(METHOD)

leaderboard: setup  ## draw the page, runs/site/index.html, of all submissions and results
	$(PY) -m sibench.leaderboard render

perf: setup  ## measure physics, rollouts and learners, side by side
	$(PY) tests/perf.py
	$(PY) tests/perf_learners.py

lock:  ## resolve requirements.lock anew
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --generate-hashes --no-header -o requirements.lock

clean:  ## remove .venv and caches
	rm -rf .venv .cache .pytest_cache .ruff_cache
