# Every target works on a fresh clone: the first one to run makes .venv and installs phosphene into it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TESTS_AT_ONCE ?= 2
BENCHMARKS := $(sort $(wildcard benchmarks/bench_*.py))
CHROMIUM := $(shell command -v chromium)
POSTGRES := $(firstword $(wildcard /usr/lib/postgresql/*/bin/initdb) $(shell command -v initdb))

.PHONY: demo test test-slow test-oldest lint bench chaos docs chromium postgresql clean

demo: $(INSTALLED)
	$(BIN)/phosphene demo

test: $(INSTALLED) $(if $(CHROMIUM),,chromium) $(if $(POSTGRES),,postgresql)
	$(BIN)/python -m pytest -q -n $(TESTS_AT_ONCE) --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -s -m slow

# with every dependency at the lowest version that pyproject.toml allows
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -q -n $(TESTS_AT_ONCE) --dist loadfile $(TESTS)

.venv-oldest/.installed: pyproject.toml
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install -q torch torchvision
	.venv-oldest/bin/python .ci/oldest.py pyproject.toml > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install -q -e '.[dev]' -c .venv-oldest/constraints.txt
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@for file in $(BENCHMARKS); do echo "== $$file" >&2; $(BIN)/python $$file || exit 1; done

# kills, crowds, starves and damages small studies: an hour and more
chaos: $(INSTALLED)
	$(BIN)/python benchmarks/chaos.py

docs: $(INSTALLED)
	@test -x $(BIN)/mkdocs || $(BIN)/pip install -q -e '.[docs]'
	$(BIN)/mkdocs build --strict

# the tests of pages look at them in Debian's browser
chromium:
	$(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get -qq update && apt-get -qq install -y chromium' || \
	  { echo "The tests of pages need Chromium; install it with your package manager." >&2; exit 1; }

# answers of raters are tested in a real PostgreSQL too, one that the test starts itself
postgresql:
	$(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get -qq update && apt-get -qq install -y postgresql' || \
	  { echo "The tests of PostgreSQL need its server; install it with your package manager." >&2; exit 1; }

clean:
	rm -rf .venv .venv-oldest build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and on its own, so that pip may choose the build that suits this machine before anything else asks for it
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q torch torchvision
	$(BIN)/pip install -q -e '.[dev]'
	touch $@
