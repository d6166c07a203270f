# verify only reads, fix writes. Both use the tools of the active environment:
#     python -m pip install -e '.[dev]'

PYTHON ?= python

.PHONY: verify fix test mutations bench

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

# Known bugs, put in one at a time: the simulator must find each within 200 seeds.
mutations:
	$(PYTHON) -m tests.simulation.mutations --seeds 200

bench:
	$(PYTHON) benchmarks/load.py
	$(PYTHON) benchmarks/failover.py
