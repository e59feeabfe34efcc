# frameloom: everything a person needs after a clone. Only make and Python >= 3.11 must be there.
#   make demo    environment, demo clip, `guard` on it: annotated MP4, events, summary
#   make test    environment, linters, tests
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIP := .demo/clip.mp4
OUT := out/demo
# Without an NVIDIA driver, torch's build for processors: a tenth of the size.
CPU_ONLY := $(if $(shell command -v nvidia-smi 2>/dev/null),,--constraint constraints-cpu.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CPU_ONLY)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean distclean
.DELETE_ON_ERROR:

help:
	@echo "make demo    run guard on a clip with real faces; results in $(OUT)"
	@echo "make test    run the tests          make lint    ruff, mypy, import contracts"
	@echo "make bench   quick measurements     make clean   remove what the above made"

demo: $(VENV)/.demo-installed $(CLIP)
	rm -rf $(OUT)
	$(BIN)/frameloom run guard $(CLIP) --out $(OUT) --port 0

test: $(VENV)/.test-installed
	$(BIN)/python -m pytest

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench-installed
	for name in links pipeline latency guard overload churn; do \
	  $(BIN)/python -m bench $$name --quick || exit 1; done

clean:
	rm -rf out .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

$(CLIP): operators/demo_clip.py | $(VENV)/.demo-installed
	@mkdir -p $(@D)
	$(BIN)/python -m operators.demo_clip $@

# One stamp per set of packages; made again only when pyproject.toml changes.
$(VENV)/.%-installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "frameloom needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make environments (Debian: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
