# make demo: install into .venv and run the main job. make test: install, lint, types, all tests, WORKERS files at once.
SHELL := bash
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
RUN := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
WORKERS ?= 2
STAMP := $(VENV)/.installed
PEERS := $(VENV)/bench/.installed
SIZES := tiny small
WRITTEN = --markdown outputs/claims.md
# the longest first, what shares its stages last
SCIENCE := frontier overoptimisation principles label_modes coverage revisions mixture critique rl_curves

.PHONY: demo test check format pretrain interop bench science science-quick clean help

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## the main job: the whole pipeline in the micro-world, ratings table and report
	$(BIN)/cai run

test: $(STAMP)   ## lint, types, all tests
	$(MAKE) check
	$(RUN) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(STAMP)  ## lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## format the source
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pretrain: $(STAMP) ## make the weights that ship with the package anew: make pretrain SIZES='tiny small'
	for size in $(SIZES); do $(BIN)/cai run experiment=base model=$$size || exit 1; \
	  rm -rf cai_lightning/microworld/weights/$$size; \
	  cp -r outputs/latest/weights cai_lightning/microworld/weights/$$size || exit 1; done

interop: $(STAMP) ## TRL and lm_eval, in an environment of their own, on what `cai export` writes
	$(PYTHON) -m venv $(VENV)/interop
	$(VENV)/interop/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  torch transformers peft datasets accelerate trl==1.16.0 lm_eval==0.4.13
	CAI_TRL_PYTHON=$(abspath $(VENV))/interop/bin/python $(RUN) $(BIN)/python -m pytest tests/unit/commands/test_commands_interop.py

$(PEERS): constraints.txt
	$(PYTHON) -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  torch transformers peft datasets accelerate trl==1.16.0
	touch $@

bench: $(STAMP) $(PEERS) ## speed and memory against TRL and transformers: make bench ARGS='--rows sft --quick'; benchmarks/README.md
	$(BIN)/python -m benchmarks --peers $(VENV)/bench/bin/python $(ARGS)

science: $(STAMP) ## the paper's questions over seeds and the table of claims, WORKERS at once; goes on where it was: make science SCIENCE='revisions mixture'
	@$(MAKE) --no-print-directory -j $(WORKERS) SEEDS='$(SEEDS)' $(SCIENCE:%=sweep-%)
	$(BIN)/cai claims --sweeps $(SCIENCE) $(WRITTEN)

sweep-%: $(STAMP)
	@set -o pipefail; $(BIN)/cai run sweeps=$* $(SEEDS) runtime.threads=1 2>&1 | while IFS= read -r line; do echo "$*: $$line"; done

# half the prompts that are evaluated and half the RL samples
science-quick: SEEDS = replicate=0 stages.ppo.iterations=12 data.eval.0.count=159 data.eval.1.count=100 data.eval.2.count=55
science-quick: WRITTEN =
science-quick: science ## the same on one seed and in part: to see that it runs, its verdicts mean little

clean:           ## remove the environment; outputs/ stays
	rm -rf $(VENV)
