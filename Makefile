# `make run` and `make test` set up what they need in .venv; nothing else has to be installed but git, make and Python 3.11 or later.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# pyright runs on the node of the lock file, whatever the machine has.
export PYRIGHT_PYTHON_GLOBAL_NODE := 0

.PHONY: run test lint bench lock clean

run: $(READY)
	$(BIN)/hvo run $(ARGS)

test: lint
	$(BIN)/pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/python bench/run.py

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The newest versions that pyproject.toml allows, tried out in an environment of their own.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check hatchling editables
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation '.[dev]'
	{ sed -n '/^#/p' requirements.lock; \
	  build/lock/bin/python -m pip freeze | sed -e '/^hvo /d' -e 's/^\(drgn==.*\)/\1; sys_platform == "linux"/'; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

clean:
	rm -rf $(VENV) build dist

-include kernels.mk
