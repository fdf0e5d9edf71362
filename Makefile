# Everything runs in .venv, which is made and renewed when needed.

PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/stamps
ARGS ?=

.DEFAULT_GOAL := setup
.DELETE_ON_ERROR:
.PHONY: setup system demo test bench results docs lint clean

setup: $(STAMPS)/package

# What pip cannot install: a C++ compiler, Python's headers, OpenGL without a display. Needs root.
system:
	PYTHON='$(PYTHON)' scripts/system_packages.sh

demo: setup
	$(VENV)/bin/lingbot-va demo $(ARGS)

# Tests of the running graph have the machine to themselves, the others share it. What fails is tested once more, alone,
# as by colcon's --retest-until-pass: another tenant of the machine can hold a node up for longer than the test allows.
PYTEST := $(VENV)/bin/python -m pytest
AGAIN = test $$? = 1 && echo 'make: once more what failed' && $(PYTEST) --last-failed --last-failed-no-failures none
test: setup
ifdef ARGS
	$(PYTEST) $(ARGS)
else
	@failed=0; \
	$(PYTEST) -n logical --maxprocesses 4 --dist loadfile -m 'not graph' || { $(AGAIN) -m 'not graph'; } || failed=1; \
	$(PYTEST) -m graph || { $(AGAIN) -m graph; } || failed=1; \
	exit $$failed
endif

# Writes the tables of docs/performance.md, about seven minutes; the machine should have nothing else to do.
bench: setup
	$(VENV)/bin/lingbot-va bench all --page docs/performance.md $(ARGS)

# Goes on where it was ended; docs/evaluation.md says how to make the other checkpoints that it compares.
results: setup
	$(VENV)/bin/lingbot-va results --page docs/results.md $(ARGS)

# The pages as a site, out/site/index.html. A link to nothing is an error.
docs: setup
	$(VENV)/bin/mkdocs build --strict $(ARGS)

lint: $(STAMPS)/requirements
	$(VENV)/bin/ruff check $(ARGS)

clean:
	rm -rf $(VENV) out build install log dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || \
		{ echo 'make: $(PYTHON) is not Python 3.10, 3.11 or 3.12; name one: make setup PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'make: $(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/requirements: requirements.txt requirements-dev.txt requirements-docs.txt | $(STAMPS)/venv
	$(VENV)/bin/pip install --quiet -r requirements.txt -r requirements-dev.txt -r requirements-docs.txt
	@touch $@

# rosidl generates and compiles the messages, about a minute.
$(STAMPS)/messages: $(shell find lingbot_va_msgs -type f) $(STAMPS)/requirements
	$(VENV)/bin/pip install --quiet --no-deps --force-reinstall ./lingbot_va_msgs
	@touch $@

$(STAMPS)/package: setup.py setup.cfg pyproject.toml $(STAMPS)/messages
	$(VENV)/bin/pip install --quiet --no-deps -e .
	@touch $@
