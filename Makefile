# Two commands on a fresh machine: `make run` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
# The first that runs: pyenv puts names on PATH also of versions that are not chosen, and those fail.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13; do \
	$$name -c '' 2>/dev/null && exec echo $$name; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FLEET := $(VENV)/.fleet
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help run test test-quick test-slow test-fleet fuzz audit check bench openapi docs lock image-check screenshots

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: $(INSTALLED)  ## install, fill the store if it is empty, measure once, and serve (Ctrl-C stops)
	@$(BIN)/resnet-heads init --if-empty
	@$(BIN)/resnet-heads benchmark --if-missing || echo 'Not measured; serving all the same.' >&2
	@exec $(BIN)/resnet-heads serve

test: $(INSTALLED)  ## install, and run the tests, but those marked slow
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not fleet'

test-quick: $(INSTALLED)  ## every route on fake heads, in seconds, without a socket or an engine: at each save
	$(BIN)/pytest -q tests/quick

test-slow: $(INSTALLED)  ## the others: training, int8, the newest Python, the page in a browser, 21,000 mutated requests
	$(BIN)/pytest -m slow

check: $(INSTALLED)  ## style, types, layers, and that no secret is in a file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	UV=$(BIN)/uv .ci/secrets

test-fleet: $(FLEET)  ## several servers: real proxies, kills, reloads, overload, a Ray cluster (needs Debian's nginx, haproxy)
	$(BIN)/pytest -m fleet

fuzz: $(INSTALLED)  ## attack the application with hostile requests for SECONDS, from SEED
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(or $(SECONDS),60) $(SEED)

audit: $(INSTALLED)  ## ask an advisory service about every pinned version (needs one that can be reached)
	@UV=$(BIN)/uv .ci/audit requirements*.lock

bench: $(INSTALLED)  ## measure the figures in docs/figures.md (60 minutes; let nothing else run)
	@PYTHONPATH=tests $(BIN)/python -m bench $(or $(PART),all) $(ROUNDS)

openapi: $(INSTALLED)  ## write openapi.yaml anew from the code
	$(BIN)/python tests/openapi_document.py > openapi.yaml.new
	mv openapi.yaml.new openapi.yaml

docs: $(INSTALLED)  ## write docs/settings.md anew from the code
	$(BIN)/python tests/settings_document.py > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md

screenshots: $(INSTALLED)  ## draw docs/screenshots anew (needs Debian's chromium)
	@$(BIN)/resnet-heads init --if-empty --weights demo --store-dir $(VENV)/demo_store
	@PYTHONPATH=tests $(BIN)/python tests/screenshots.py $(VENV)/demo_store docs/screenshots

image-check: $(INSTALLED)  ## build the container, and run it as a cluster would (root, buildah, debootstrap)
	@$(BIN)/resnet-heads init --if-empty --weights demo --store-dir $(VENV)/demo_store
	@tests/image/check.sh $(VENV)/demo_store

# The locks hold the hashes of every platform's files. -serve is without what only lab/ uses, -ray is that and
# Ray, -build makes the wheel.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

lock: $(INSTALLED)  ## resolve the lock files anew
	$(LOCK) --upgrade --extra test --extra tools pyproject.toml -o requirements.lock
	printf '%s; python_version < "3"\n' tensorflow keras nncf scikit-learn scipy > $(VENV)/without
	$(LOCK) --constraint requirements.lock --override $(VENV)/without pyproject.toml -o requirements-serve.lock
	$(LOCK) --constraint requirements.lock --override $(VENV)/without --extra ray pyproject.toml -o requirements-ray.lock
	echo hatchling | $(LOCK) --constraint requirements.lock - -o requirements-build.lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or \
		sys.exit("Python 3.11, 3.12 or 3.13 is needed, as TensorFlow is built for; %s is %d.%d. \
	Name another: make PYTHON=python3.12" % ((sys.executable,) + sys.version_info[:2]))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV): a minute or two, 2 GB, once'
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(FLEET): requirements-ray.lock $(INSTALLED)
	@echo 'Installing Ray'
	@$(PIP) --require-hashes -r requirements-ray.lock
	@touch $@
