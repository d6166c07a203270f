# verify only reads, fix writes. Both use the tools of the active environment:
#     python -m pip install -e '.[dev]'

PYTHON ?= python

.PHONY: verify fix test bench

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

bench:
	$(PYTHON) benchmarks/load.py
	$(PYTHON) benchmarks/failover.py
