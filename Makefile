# `make demo`, `make test` and `make docs` build their own environment in .venv; Python >= 3.10 is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# Byte code is kept: the tests start the program hundreds of times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types style compiled docs clean

demo: $(STAMP)
	$(BIN)/tomopolish demo --o demo

# One process more than processors, since tests of workers often wait. Files keep their order: xdist would begin
# those with few tests last, which take longest. `style` has run the tests of the code's shape. Tests that measure
# time are looked for in the files that have any.
test: $(STAMP)
	@$(MAKE) --no-print-directory --jobs 2 types style compiled
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder -m "not alone" \
		--ignore tests/test_architecture.py
	$(BIN)/python -m pytest -m alone $$(grep -rl --include="*.py" "mark.alone" tests)

# Checking types takes as long as all the rest.
lint: $(STAMP)
	@$(MAKE) --no-print-directory --jobs 2 types style

types:
	$(BIN)/mypy

# The tests of the code's shape run import-linter.
style:
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --no-cache --check
	$(BIN)/vulture
	$(BIN)/python -m pytest tests/test_architecture.py

# To collect the tests compiles them, which xdist's workers would all do at the same time.
compiled:
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null || true

docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo site
