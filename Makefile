PYTHON ?= .venv/bin/python

.venv/bin/artifactdb: pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install --quiet --editable ".[dev]"
	touch $@

.PHONY: install demo test test-campaigns test-slow kills crowds power-cuts bit-rot everything soak mutations faults golden-environments lint types benchmarks clean

install: .venv/bin/artifactdb

demo: install
	rm -rf demo && .venv/bin/artifactdb demo demo

test: install
	$(PYTHON) -m pytest -n 3 -m "not slow and not campaign"

test-campaigns: install
	$(PYTHON) -m pytest -n 3 -m "campaign and not slow"

test-slow: install
	$(PYTHON) -m pytest -m slow

kills: install
	$(PYTHON) -m tests.campaigns.kills --kills 1000

crowds: install
	$(PYTHON) -m tests.campaigns.crowds --minutes 10

power-cuts: install
	$(PYTHON) -m tests.campaigns.power_cut --cuts 25000

bit-rot: install
	for file in packed staged large; do $(PYTHON) -m tests.campaigns.bit_rot --file $$file --minutes 600 || exit 1; done

everything: install
	$(PYTHON) -m tests.campaigns.everything --steps 10000

soak: install
	$(PYTHON) -m tests.campaigns.soak --minutes 60 --out docs/soak.png

mutations: install
	$(PYTHON) -m tests.campaigns.mutations --count 1000000

golden-environments: install
	$(PYTHON) -m tests.golden.environments

faults: install
	$(PYTHON) -m tests.campaigns.faults --minutes 120

lint: install
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

types: install
	.venv/bin/mypy

benchmarks: install
	for name in register growth load size large_array catalog_add catalog_scale catalog_join import_folder transfer runner predict trust; do $(PYTHON) -m benchmarks.$$name || exit 1; done

clean:
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .hypothesis
