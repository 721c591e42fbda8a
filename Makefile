# `make demo` and `make test` need Python 3.11 or newer with pip, and nothing else.
# Another interpreter: `make test PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal --durations 15

.PHONY: demo test test-slow lint clean

demo: .venv/demo
	$(BIN)/musiclm quickstart

test: .venv/dev
	$(PYTEST) -m 'not slow'

test-slow: .venv/dev .venv/libtpu
	$(PYTEST) -m slow

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

clean:
	rm -rf .venv .cache build dist *.egg-info

# Stamps: what is installed is installed again only when its list changes.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed; $(PYTHON) is {sys.version}. Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# The demo renders music and needs no TensorFlow.
.venv/demo: setup.py constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[tunes]'
	touch $@

.venv/dev: setup.py constraints.txt requirements-no-deps.txt | $(BIN)/python
	$(INSTALL) -e '.[data,eval,dev]'
	$(INSTALL) --no-deps -r requirements-no-deps.txt
	touch $@

# Beside the environment, not in it: a JAX that finds libtpu looks for TPUs.
.venv/libtpu: constraints.txt | $(BIN)/python
	$(INSTALL) --no-deps --upgrade --target $@ libtpu
	touch $@
