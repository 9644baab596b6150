# `make run` and `make test` set up what they need in .venv; nothing else has to be installed but git, make and Python 3.11 or later.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
ARGS ?=
# pyright runs on the node of the lock file, whatever the machine has.
export PYRIGHT_PYTHON_GLOBAL_NODE := 0

.PHONY: run test test-all lint bench tools lock dist reference docs clean

run: $(READY)
	$(BIN)/hvo run $(ARGS)

test: lint tools
	$(BIN)/pytest -m "not slow and not exhaustive" $(ARGS)

# Also the slow tests: 10^5 random programs, all golden records, mutants of every protocol.
test-all: lint tools
	$(BIN)/pytest $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

bench: $(DEV) tools
	$(BIN)/python bench/run.py

# Never fails: where Debian's programs cannot be installed, the tests that need them are skipped and say so.
tools:
	@tools/install_tools.sh || echo "the tests that need these programs will be skipped"

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

$(DEV): requirements-dev.lock $(READY)
	$(INSTALL) -r requirements-dev.lock
	touch $@

# The newest versions that pyproject.toml allows, tried out in environments of their own.
lock:
	tools/lock.sh $(PYTHON) hatchling editables . > build/requirements.lock
	tools/lock.sh $(PYTHON) '.[dev]' > build/requirements-dev.lock
	mv build/requirements.lock build/requirements-dev.lock .

# Reference pages, JSON schemas, manual pages and completions, which are kept in the project.
reference: $(DEV)
	$(BIN)/python tools/reference.py

# The documentation site in build/site, with pictures of what commands print now, and pages made of the code; needs no network.
docs: reference
	$(BIN)/python -m hvo.audit.findings_page > docs/findings.md
	$(BIN)/python -m hvo.check.properties_page > docs/properties.md
	$(BIN)/python -m hvo.host.metrics_page > docs/metrics.md
	$(BIN)/python -m hvo.fleet.inventory_page > docs/inventory.md
	$(BIN)/python -m hvo.report.check_pages docs/arm64.md docs/h19.md
	$(BIN)/python tools/pictures.py docs/pictures
	$(BIN)/mkdocs build --strict --quiet

# Wheel and sdist, each installed into an empty environment and tried there.
dist: $(DEV)
	$(BIN)/python tools/dist.py

clean:
	rm -rf $(VENV) build dist

-include kernels.mk
