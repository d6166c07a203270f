# verify only reads, fix writes. Both use the tools of the active environment:
#     python -m pip install -e '.[dev]'

PYTHON ?= python

.PHONY: verify fix test simulate mutations nemesis soak bench

verify:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	lint-imports
	$(PYTHON) -m pytest -q -m "not cluster"

fix:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:
	$(PYTHON) -m pytest

# The whole server over a simulated network, disk and clock. SEEDS: how many; FIRST: the first one.
SEEDS ?= 200
FIRST ?= 0
JOBS ?= 2
simulate:
	@$(PYTHON) -m tests.simulation --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS)

# Known bugs, put in one at a time: the simulator must find each within 200 seeds.
mutations:
	$(PYTHON) -m tests.simulation.mutations --seeds 200

# Real processes, real faults: every workload with every fault. As root, faults of networks too.
SECONDS ?= 60
nemesis:
	$(PYTHON) -m tests.nemesis --all --seconds $(SECONDS)

# One cluster at work for hours: does it keep what it holds within bounds?
HOURS ?= 7
soak:
	$(PYTHON) -m tests.nemesis.soak --hours $(HOURS)

bench:
	$(PYTHON) benchmarks/load.py
	$(PYTHON) benchmarks/failover.py
