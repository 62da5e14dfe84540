# `make` lists the targets. The environment is made once, in .venv; `make PYTHON=python3.12 ...` chooses the Python
# it is made from (3.11 or newer, for the pinned requirements), `make VENV=folder ...` another place.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
RUN := $(PY) -m
STAMP := $(VENV)/.installed

.PHONY: help venv demo test lint lab app notebooks docs wiki teacher assets embedded tables studies classifier reference fuzz clean

help:
	@echo "make demo       distil a student from the bundled teacher and score it (10 minutes on 2 cores)"
	@echo "make test       run every test and every notebook"
	@echo "make lint       words, lint and format"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make app        the explorer as a web page on this machine; ARGS='--port=8888 --no-browser' for Voila"
	@echo "make notebooks  execute the notebooks in place and clean them; NAMES='01_dataset' for some of them"
	@echo "make docs       build the site from README, docs/ and the notebooks: build/site/index.html"
	@echo "make wiki       write the pages for a GitHub wiki: build/wiki"
	@echo "What follows needs CIFAR-10, and is for the project's authors:"
	@echo "make teacher    train the bundled teacher anew on a GPU (minutes)"
	@echo "make assets     remake the bundled student and all tables: embedded, then tables (goes on if stopped)"
	@echo "make embedded   remake student, tables, images and notebooks for the bundled teacher (two hours; in runs/assets)"
	@echo "make tables     remake the other tables: faults and speeds anew, studies from their figures (half an hour)"
	@echo "make studies    train the studies' students that are missing, of the bundled teacher (most of a day)"
	@echo "make classifier train the classifier that scores anew, which puts every score on another scale (half an hour)"
	@echo "make reference  on a GPU: a better teacher, then its students of many sizes; ARGS='--minutes 20' for a part"
	@echo "make fuzz       change good files at random, guided by coverage, and read them; MINUTES=10 for each reader"
	@echo "make clean      remove the environment and Python's caches; runs/ stays"

venv: $(STAMP)

$(STAMP): requirements.txt pyproject.toml tests/colab-requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("the pinned requirements need Python 3.11 or newer, and this is " \
	  + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check -r requirements.txt
	$(RUN) pip install --disable-pip-version-check --quiet --no-deps --editable .
	rm -rf $(VENV)/colab
	$(RUN) pip install --disable-pip-version-check --quiet --no-deps --target $(VENV)/colab \
	  -r tests/colab-requirements.txt
	@touch $@

demo: $(STAMP)
	$(RUN) gsoc_kd demo

test: $(STAMP)
	$(RUN) pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=120 \
	  tests notebooks

lint: $(STAMP)
	$(PY) tools/words.py
	$(RUN) ruff check
	$(RUN) ruff format --check

lab: $(STAMP)
	$(RUN) jupyter lab notebooks

# How many visitors, for how long, from where: app/voila.py.
app: $(STAMP)
	$(RUN) voila app/explorer.ipynb --Voila.config_file_paths=app $(ARGS)

notebooks: $(STAMP)
	$(PY) notebooks/execute.py $(NAMES)

docs: $(STAMP)
	$(PY) docs/build.py site

wiki: $(STAMP)
	$(PY) docs/build.py wiki

# Refused without a GPU, where it would be a poor teacher. `make assets` belongs after it.
teacher: $(STAMP)
	$(RUN) gsoc_kd pretrain --device cuda --kimg 6600 --tick-kimg 500 --batch 256 --widths 384 256 128 64 --embed-dim 128 \
	  --disc-width 128 --disc-lr 2e-4 --score-ticks 1 --no-publish --out runs/assets/teacher
	$(PY) tools/assets.py embed --run runs/assets/teacher --name teacher

assets:
	$(MAKE) embedded
	$(MAKE) tables

# The student in gsoc_kd/assets, and all that shows the two networks, in the order in which one part needs the other. A
# stopped run goes on; to start over, remove runs/assets. PEER, BEFORE, OFFICIAL: the checkouts of benchmarks/speed.py.
embedded: $(STAMP)
	$(RUN) gsoc_kd pairs --per-class 10000 --out runs/assets/pairs
	$(RUN) gsoc_kd distill --pairs runs/assets/pairs --out runs/assets/student --kimg 3498.88 --tick-kimg 50 --ema 0.9995
	$(PY) tools/assets.py embed --run runs/assets/student --name student
	$(PY) tools/assets.py results
	$(RUN) gsoc_kd demo --out runs/assets/demo
	$(PY) tools/figures.py
	$(PY) tools/assets.py calibrate
	$(PY) benchmarks/speed.py generators $(if $(PEER),--peer $(PEER)) --write
	$(PY) notebooks/execute.py
	$(PY) docs/explorer_look.py
	$(PY) docs/build.py site
	$(PY) docs/try_look.py

tables: $(STAMP)
	$(PY) benchmarks/studies.py speed
	$(PY) benchmarks/studies.py tables
	$(PY) benchmarks/faults.py --write docs/Training.md
	rm -rf runs/own-images
	$(PY) benchmarks/own.py
	$(if $(PEER),$(PY) benchmarks/speed.py training --peer $(PEER) $(if $(BEFORE),--before $(BEFORE)) --write)
	$(if $(OFFICIAL),$(PY) benchmarks/speed.py stylegan2 --official $(OFFICIAL) --write)

# The rows that the pages show; figures are kept in benchmarks/results, of the bundled teacher only.
studies: $(STAMP)
	for study in ablations equal-cost trade-off; do $(PY) benchmarks/studies.py $$study || exit; done

classifier: $(STAMP)
	$(PY) tools/assets.py classifier
	$(PY) tools/assets.py reference
	$(PY) tools/assets.py cas

# Exit code 3 (make's "Error 3") says that there is more to do: call it again.
reference: $(STAMP)
	$(RUN) gsoc_kd pretrain --preset gpu --device cuda --out runs/reference/teacher
	mkdir -p benchmarks/results/full-scale && rm -rf benchmarks/results/full-scale/teacher
	cp -r runs/reference/teacher/float16 benchmarks/results/full-scale/teacher
	$(PY) benchmarks/studies.py full-scale $(ARGS)

# Findings lie in build/fuzz; mended, their inputs go into tests/fixtures/fuzz.
MINUTES ?= 10
fuzz: $(STAMP)
	$(RUN) pip install --disable-pip-version-check --quiet "atheris>=3,<4"
	$(PY) tools/fuzz.py all --minutes $(MINUTES)

clean:
	rm -rf $(VENV) .pytest_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
