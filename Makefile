# SPDX-License-Identifier: GPL-2.0-only
# The two commands of a newcomer: make run, make test. Both set up what they need.

PYTHON := .venv/bin/python

.PHONY: run check test nightly campaign calls races booted check-trees lint coverage docs manual bench mutants bugs c-mutants corpus lock kernel-tools clean

run: .venv/.ready
	$(PYTHON) examples/live_process.py

# For the loop at the desk: lint, types, and the tests that take no kernel and no time.
check: .venv/.dev lint
	$(PYTHON) -m pytest -n auto --dist worksteal -m "not slow and not kernel"

# Everything. VMAPLAB_REQUIRE_KERNEL=1 fails where the kernel's own code cannot be built, instead of skipping its tests.
test:
	@$(MAKE) --no-print-directory -j2 kernel-tools lint
	$(PYTHON) -m pytest -n auto --dist worksteal

# The long campaigns: twenty times as many examples of the property tests, 200,000 calls of the state machine, scenarios
# and sequences by the thousand, every kernel tree.
nightly: .venv/.dev
	@bash tools/kernel_tools.sh all
	HYPOTHESIS_PROFILE=long VMAPLAB_STEPS=200000 VMAPLAB_REQUIRE_KERNEL=1 $(PYTHON) -m pytest -n auto --dist worksteal
	$(MAKE) campaign CASES=100000
	$(MAKE) calls
	$(MAKE) races
	$(MAKE) booted
	$(MAKE) check-trees

# The model against the kernel's own code, on every architecture that can be run. SEED chooses the scenarios.
CASES := 20000
SEED := 1
campaign: .venv/.ready kernel-tools
	$(PYTHON) -m vmaplab.cli check --arch all --cases $(CASES) --seed $(SEED)

# Sequences of 50 calls of all kinds, from one CPU and from four.
calls: .venv/.ready kernel-tools
	$(PYTHON) -m vmaplab.cli check --arch $(SEQUENCED) --calls 50 --cases 5000 --seed $(SEED) --cpus 1
	$(PYTHON) -m vmaplab.cli check --arch $(SEQUENCED) --calls 50 --cases 5000 --seed $(SEED) --cpus 4
SEQUENCED := arm64-4k,x86_64,riscv64-sv48

# All pairs of calls with one preemption, some with two, and random schedules of four calls.
races: .venv/.ready kernel-tools
	$(PYTHON) -m vmaplab.cli check --race --arch $(SEQUENCED)
	$(PYTHON) -m vmaplab.cli check --race --arch $(SEQUENCED) --preemptions 2 --cases 200 --seed $(SEED)
	$(PYTHON) -m vmaplab.cli check --race --arch $(SEQUENCED) --calls 4 --cases 1000 --seed $(SEED)

# Kernels that boot in QEMU, against model and emulator.
booted: .venv/.ready
	@bash tools/kernel_tools.sh all
	$(PYTHON) -m vmaplab.cli boot --arch $(BOOTED) --cases 10000 --seed $(SEED)
	$(PYTHON) -m vmaplab.cli boot --arch $(BOOTED) --cases 10000 --seed $(SEED) --snippet examples/batched_vmap.c --call batched_vmap
	$(PYTHON) -m vmaplab.cli boot --cpus 4 --with all --cases 1000 --seed $(SEED)
BOOTED := arm64-4k,x86_64,riscv64-sv39

# Kernel trees on each of the eight formats: one table, put into docs/trees.md. Debian's 6.1 and 6.12, or TREES="DIR DIR".
TREES :=
check-trees: .venv/.ready kernel-tools
	$(PYTHON) tools/check_trees.py --write $(TREES)

# What building the kernel's own code needs: installed by apt where root, named otherwise.
kernel-tools:
	@bash tools/kernel_tools.sh

lint: .venv/.dev
	$(PYTHON) -m ruff check src tests benchmarks examples tools
	$(PYTHON) -m ruff format --check src tests benchmarks examples tools
	$(PYTHON) -m mypy

# Which lines of the project the quick tests reach: compiled functions run as plain Python for that.
coverage: .venv/.dev
	NUMBA_DISABLE_JIT=1 $(PYTHON) -m coverage run --parallel-mode -m pytest -p no:xdist -m "not slow and not kernel"
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --skip-covered --sort=cover

# What follows from the code or from running it: the table of calls, and what the examples print.
docs: .venv/.dev kernel-tools
	$(PYTHON) tools/calls.py docs/calls.md
	$(PYTHON) tools/commands.py docs/commands.md man/vmaplab.1
	$(PYTHON) tools/schema.py src/vmaplab/report/schema
	$(PYTHON) -m vmaplab.cli map heap:8M,fragmentation=0.5,seed=1 --svg docs/tables.svg
	for page in README.md docs/*.md; do $(PYTHON) tools/readme.py $$page; done
	$(MAKE) manual

# The manual as a web site in build/manual, without the network; links that lead nowhere are errors.
manual: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict

# Prints the tables of docs/performance.md and puts them there.
bench: .venv/.dev kernel-tools
	$(PYTHON) benchmarks/vmap.py docs/performance.md
	$(PYTHON) benchmarks/check.py docs/performance.md
	$(PYTHON) benchmarks/judges.py docs/performance.md
	$(PYTHON) benchmarks/published.py docs/performance.md
	$(PYTHON) benchmarks/native.py docs/cost.md
	$(PYTHON) benchmarks/published_time.py docs/cost.md
	$(PYTHON) benchmarks/growth.py
	$(PYTHON) benchmarks/policy.py
	$(PYTHON) benchmarks/arrays.py 10000 build/arrays
	$(PYTHON) benchmarks/sweep.py docs/sweep.md docs/sweep-growth.svg
	$(PYTHON) benchmarks/areas.py docs/performance.md docs/areas.svg

# Seeded faults and who notices them: prints the table of docs/judges.md and puts it there.
mutants: .venv/.dev
	PYTHONPATH=benchmarks $(PYTHON) tests/mutants.py docs/judges.md

# Bugs of the field, put back into 6.12, and what plain `vmaplab check --tree` says of each; faults made by rule in its C.
bugs: .venv/.dev kernel-tools
	PYTHONPATH=tests $(PYTHON) tests/bugs.py

c-mutants: .venv/.dev kernel-tools
	PYTHONPATH=tests $(PYTHON) tests/c_mutants.py 300 docs/judges.md

# The scenarios that every check runs first, and the page on what runs; TREES="DIR" adds other kernels to it.
corpus: .venv/.ready kernel-tools
	$(PYTHON) tools/corpus.py
	$(PYTHON) tools/coverage.py docs/coverage.md $(TREES)

# Resolve the dependencies anew: pip-tools must be on the PATH.
LOCK := pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
lock:
	$(LOCK) $(patsubst %,--extra %,dev arrow build docs drgn lzo sweep) --output-file requirements-dev.lock pyproject.toml
	$(LOCK) --extra build --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml

.venv/.ready: requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh

.venv/.dev: .venv/.ready requirements-dev.lock
	@bash tools/setup.sh dev

clean:
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache
