# make help lists what there is. Everything Python goes into .venv; what Debian
# must bring is installed by tools/apt-install, or it says what to type.

SHELL = /bin/sh
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# Packages that must be compiled use the pinned setuptools, not one from anywhere.
INSTALL = $(PIP) install --require-hashes --no-build-isolation --use-pep517
PYTHON := $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
    done)
TESTS = tests
# So many at a time; each process starts servers of its own. A file stays together.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist loadfile
# storm and mysqlclient have parts in C.
COMPILED = gcc libc6-dev python3-dev python3-venv libmariadb-dev pkg-config

.PHONY: help demo test test-slow test-replicated media-trial screenshots check audit settings completion bench install uninstall deb clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.runtime ## Publish a clip from end to end; MEDIA=/path/to/clip.mp4, DEMO_EXIT=1
	@tools/apt-install ffmpeg
	@$(BIN)/python -m backoffice.operations.demo

test: $(VENV)/.test ## Run the tests, on SQLite and on a MariaDB of their own; TESTS=tests/test_x.py
	@$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(TESTS)

test-slow: $(VENV)/.test ## Run the tests that take minutes: kills, races, the real thing
	@$(BIN)/python -m pytest -m slow $(TESTS)

test-replicated: $(VENV)/.test ## The tests of engine and pages, on a primary with two replicas
	@BACKOFFICE_TEST_REPLICATED=1 $(BIN)/python -m pytest -m "not slow" \
	    --ignore=tests/acceptance --ignore=tests/web/test_replicas.py $(SIDE_BY_SIDE) $(TESTS)

media-trial: $(VENV)/.test ## Compare what is made of the files in FOLDER= with what ffmpeg decodes
	@$(BIN)/python -m tests.media_trial "$(FOLDER)"

screenshots: $(VENV)/.test ## Take the pictures in docs/screenshots anew
	@$(BIN)/python -m tests.acceptance.screenshots

check: $(VENV)/.check ## Format, lint, types, import rules, scripts, XML
	@tools/apt-install shellcheck devscripts libxml2-utils
	@tools/check

audit: $(VENV)/.audit ## Look for known vulnerabilities in what is pinned; needs the network
	@tools/audit

bench: $(VENV)/.bench ## Measure: ratios within one run
	@tools/apt-install wrk
	@$(BIN)/python -m bench

# What is installed runs on the system's own Python, whatever PATH finds first.
install uninstall deb: PYTHON = /usr/bin/python3
PLACE = DESTDIR="$(DESTDIR)" prefix="$(prefix)" PYTHON="$(PYTHON)"
prefix = /usr

install: ## Install the service; DESTDIR= prefix=/usr
	@PYTHON=$(PYTHON) tools/apt-install $(COMPILED)
	@$(PLACE) tools/install

uninstall: ## Remove what make install brought, but no settings and no data
	@$(PLACE) tools/install --remove

deb: ## Build a Debian package in dist/
	@PYTHON=$(PYTHON) tools/apt-install $(COMPILED)
	@PYTHON=$(PYTHON) tools/deb

settings: $(VENV)/.runtime ## Write etc/backoffice.ini and docs/backoffice.ini.5 anew
	@$(BIN)/python -m backoffice.config.documentation

completion: $(VENV)/.test ## Make etc/bash-completion/backoffice anew
	@PYTHONPATH=. $(BIN)/python tools/completion.py >etc/bash-completion/new
	@mv etc/bash-completion/new etc/bash-completion/backoffice

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python: requirements/build.txt
	@test -n "$(PYTHON)" || { \
	    echo "Python 3.11 or later is missing; as root, type: apt-get install python3" >&2; exit 1; }
	@PYTHON=$(PYTHON) tools/apt-install python3-venv
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) -r requirements/build.txt
	@touch $@

# storm has a part in C.
$(VENV)/.runtime: $(VENV)/.python requirements/runtime.txt pyproject.toml setup.py
	@PYTHON=$(BIN)/python tools/apt-install gcc libc6-dev python3-dev
	@$(INSTALL) -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements/test.txt
	@tools/apt-install ffmpeg mariadb-server libmariadb-dev pkg-config util-linux curl libxml2-utils \
	    apache2-bin libapache2-mod-wsgi-py3 libapache2-mod-auth-openidc fail2ban \
	    chromium chromium-driver logrotate
	@$(INSTALL) -r requirements/test.txt
	@touch $@

$(VENV)/.check: $(VENV)/.test requirements/check.txt
	@$(INSTALL) -r requirements/check.txt
	@touch $@

# An environment of its own, so that nothing of it can be imported by mistake.
$(VENV)/.audit: requirements/audit.txt
	@$(PYTHON) -m venv --clear $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip --quiet --disable-pip-version-check install \
	    --require-hashes -r requirements/audit.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.test requirements/bench.txt
	@$(INSTALL) -r requirements/bench.txt
	@touch $@
