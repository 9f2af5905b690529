# Two targets are all you need: `make run` and `make test`. `make help` lists the others.

# A real python3.13, the functions' own version, where there is one (pyenv's shim is none); else any Python from 3.11 on.
PYTHON ?= $(shell for python in python3.13 $$(pyenv root 2>/dev/null)/versions/3.13.*/bin/python3.13 python3; do \
	"$$python" -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
BIN := .venv/bin
TOOLS := .venv-tools/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Their parts are spread over all processes; other files stay whole, since each deploys what it tests.
PROTOCOLS := tests/integration/test_consent_protocol.py tests/integration/test_sending_protocol.py
# Broken guards take a copy and up to a minute each until a schedule notices them.
SOAKED := tests/integration/test_bulk_protocol.py tests/integration/test_bulk_end_to_end.py
LONG := $(PROTOCOLS) tests/integration/test_sending_protocol_has_teeth.py
CODE := layers/patient_contact/patient_contact functions tests

export SAM_CLI_TELEMETRY := 0
export AWS_DEFAULT_REGION ?= us-east-1

.DEFAULT_GOAL := help
.PHONY: help run test soak check unit bench build openapi sam-env republish sending clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: .venv/local ## Run everything on this machine: PORT (3000), AWS_PORT (4566), SMS_PORT (4567), DEMO=0, LOGS=1
	@exec $(BIN)/python -m tests.local

test: .venv/dev .venv-tools/all ## Check and test everything
	@$(MAKE) --no-print-directory check
	@echo "testing: rules, HTTP, events, template, the page in Chromium, the walk-through, and what is built (about ten minutes)"
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(LONG:%=--ignore %)
	@echo "testing: schedules of consent and of sending, with faults (make soak tries thousands)"
	@$(BIN)/python -m pytest --numprocesses auto $(PROTOCOLS)

soak: .venv/dev ## The long schedules: thousands of sequences of consent, of sends with faults, a campaign of 20,000, and broken guards
	@seed=$${SEED:-$$(date +%s)}; \
	echo "soaking: 20,000 patients, 2,000 sequences and 2,000 schedules (twenty minutes or more), SEED=$$seed"; \
	PATIENTS=20000 RECIPIENTS=1000 SEQUENCES=2000 SCHEDULES=2000 SEED=$$seed $(BIN)/python -m pytest --numprocesses auto -p no:logging $(SOAKED) $(LONG)

check: .venv/dev .venv-tools/all ## Lint, format, types, template
	@echo "checking: lint, format, types, template"
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/mypy
	$(TOOLS)/sam validate --lint
	$(BIN)/cfn-lint --append-rules cfn_lint_serverless.rules -- template.yaml

unit: .venv/dev ## The fast tests alone
	$(BIN)/python -m pytest tests/unit

bench: .venv/dev .venv-tools/all ## Measure: ratios, side by side in one run
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(BIN)/python -m tests.benchmarks

build: .venv/dev .venv-tools/all ## Build what is deployed, into .aws-sam
	PATH="$(CURDIR)/$(BIN):$$PATH" $(TOOLS)/sam build --cached --parallel

openapi: .venv/dev ## Write the API's description, functions/openapi.json
	$(BIN)/python -m tests.contract.openapi > functions/openapi.json

sam-env: .venv/local ## Write sam-env.json, with which `sam local invoke` works against `make run`
	@$(BIN)/python -m tests.local sam-env > sam-env.json

republish: .venv/local ## Put stream records back that could not be published: make republish STACK=name
	@$(BIN)/python -m patient_contact.republish --stack $(STACK)

sending: .venv/local ## Stop all sending of a stack at once, or let it go on: make sending STACK=name SWITCH=off
	@$(BIN)/python -m patient_contact.switch --stack $(STACK) $(SWITCH)

clean: ## Remove what was made here
	rm -rf .venv .venv-tools .aws-sam .ci-output .mypy_cache .pytest_cache .ruff_cache .hypothesis sam-env.json

.venv/made:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@echo "making .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear .venv && touch $@

.venv/local: .venv/made pyproject.toml constraints.txt layers/patient_contact/requirements.txt
	@echo "installing what the local stack needs (a minute, once)"
	@$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[local]' && touch $@

.venv/dev: .venv/made pyproject.toml constraints.txt layers/patient_contact/requirements.txt
	@echo "installing what tests and checks need (a minute or two, once)"
	@$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[local,dev]' && touch $@ .venv/local

# The SAM and AWS command lines pin other versions of boto3 than the functions run with: they live apart.
.venv-tools/all: tools.txt
	@echo "installing the SAM and AWS command lines (a minute, once)"
	@"$(PYTHON)" -m venv --clear .venv-tools
	@$(TOOLS)/python $(PIP_INSTALL) --requirement tools.txt && touch $@
