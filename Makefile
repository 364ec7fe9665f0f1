# Every target does its own set-up: it needs Python 3.11 to 3.13, git and make, nothing else.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help setup ablation ablation-quick ablation-smoke test audit

help:
	@echo "make ablation        train and test six heads on built-in scenes, 3 seeds each, in about 12 minutes"
	@echo "make ablation-quick  the same path in two minutes, too short to separate the heads"
	@echo "make test            lint, types and tests"
	@echo "make audit           the pinned versions against known vulnerabilities; needs network"
	@echo "make setup           create $(VENV) and install"

# Reinstalled when the dependencies change. torch alone is several hundred MB.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "segattn needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --progress-bar on -c constraints.txt -e ".[dev]"
	touch $@

setup: $(VENV)/.installed

ablation: setup
	$(RUN) scripts/ablate.py ablation=scenes

ablation-quick: setup
	$(RUN) scripts/ablate.py ablation=quick

ablation-smoke: setup
	$(RUN) scripts/ablate.py ablation=smoke logger=none

test: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8

# In an environment of its own: pip-audit's dependencies are not ours. --strict: a package whose
# advisories could not be asked for is a failure; without it, no network would pass as no finding.
AUDIT := $(VENV)/audit
audit:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9"
	@$(AUDIT)/bin/pip-audit --strict --progress-spinner off --no-deps --disable-pip -r constraints.txt \
	  || { echo "audit failed: a finding above, or, at 'could not be audited', advisories that could" \
	       "not be reached, which says nothing about the versions" >&2; exit 1; }
