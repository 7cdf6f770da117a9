# The two commands of a newcomer: make run, make test. Both set up what they need.

PYTHON := .venv/bin/python

.PHONY: run test test-long lint bench lock clean

run: .venv/.ready
	$(PYTHON) examples/live_process.py

test: .venv/.ready lint
	$(PYTHON) -m pytest -n auto

# The property tests with twenty times as many examples.
test-long: .venv/.ready
	HYPOTHESIS_PROFILE=long $(PYTHON) -m pytest -n auto

lint: .venv/.ready
	$(PYTHON) -m ruff check src tests benchmarks examples tools
	$(PYTHON) -m ruff format --check src tests benchmarks examples tools
	$(PYTHON) -m mypy

# Prints the tables of docs/performance.md and puts them there.
bench: .venv/.ready
	$(PYTHON) benchmarks/vmap.py docs/performance.md

# Resolve the dependencies anew: pip-tools must be on the PATH.
lock:
	pip-compile --quiet --allow-unsafe --extra dev --generate-hashes --strip-extras --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file requirements.lock pyproject.toml

.venv/.ready: requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh

clean:
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache
