# `make` lists the targets. The environment is made once, in .venv; `make PYTHON=python3.12 ...` chooses the Python
# it is made from (3.11 or newer, for the pinned requirements), `make VENV=folder ...` another place.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.installed

.PHONY: help venv demo test lab app notebooks teacher assets embedded tables studies judge reference docs wiki clean

help:
	@echo "make demo       distil a student from the embedded teacher and score it (10 minutes on 2 cores)"
	@echo "make test       run every test and every notebook"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make app        the explorer as a web page on this machine; ARGS='--port=8888 --no-browser' for Voila"
	@echo "make notebooks  execute the notebooks in place and clean them; NAMES='01_dataset' for some of them"
	@echo "make docs       build the site from README, docs/ and the notebooks: build/site/index.html"
	@echo "make wiki       write the pages for a GitHub wiki: build/wiki"
	@echo "make teacher    train the embedded teacher anew on a GPU (minutes; needs CIFAR-10)"
	@echo "make assets     remake the embedded student and all tables: embedded, then tables (needs CIFAR-10; goes on if stopped)"
	@echo "make embedded   remake student, tables, pictures and notebooks for the embedded teacher (an hour; in runs/assets)"
	@echo "make tables     remake the other tables: faults and speeds anew, studies from their figures (15 minutes)"
	@echo "make studies    train the studies' students anew if the embedded teacher is another one (most of a day)"
	@echo "make judge      train the judge anew, which puts every score on another scale (half an hour)"
	@echo "make reference  teacher and students at full scale on one GPU (half an hour); MINUTES=9 for one slice of it"
	@echo "make clean      remove the environment and Python's caches; runs/ stays"

venv: $(STAMP)

$(STAMP): requirements.txt pyproject.toml tests/colab-requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("the pinned requirements need Python 3.11 or newer, and this is " \
	  + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
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

lab: $(STAMP)
	$(RUN) jupyter lab notebooks

# Every visitor has a kernel of their own; two wait, warmed up, for the next ones.
app: $(STAMP)
	$(RUN) voila app/explorer.ipynb --preheat_kernel=True --pool_size=2 $(ARGS)

notebooks: $(STAMP)
	$(VENV)/bin/python notebooks/execute.py $(NAMES)

docs: $(STAMP)
	$(VENV)/bin/python docs/build.py site

wiki: $(STAMP)
	$(VENV)/bin/python docs/build.py wiki

# PEER: a checkout of the code of 2022, OFFICIAL: one of StyleGAN2-ADA's, against which speed is measured. Without PEER
# Deployment's table measures against our copy of that network; the tables of training and StyleGAN2's generator stay.
assets:
	$(MAKE) embedded
	$(MAKE) tables

# The teacher in gsoc_kd/assets, trained for as long as its provenance says; refused without a GPU, where it would be a poor
# one. `make assets` belongs after it.
teacher: $(STAMP)
	$(RUN) gsoc_kd pretrain --preset gpu --device cuda --minutes 8.15 --no-publish --out runs/assets/teacher
	$(RUN) gsoc_kd embed --run runs/assets/teacher --name teacher

# The student in gsoc_kd/assets, and all that shows the two, in the order in which one part needs the other. A stopped
# run goes on; to start over, remove runs/assets.
embedded: $(STAMP)
	$(RUN) gsoc_kd pairs --per-class 5000 --out runs/assets/pairs
	$(RUN) gsoc_kd distill --pairs runs/assets/pairs --out runs/assets/student --kimg 1500 --tick-kimg 20
	$(RUN) gsoc_kd embed --run runs/assets/student --name student
	$(RUN) gsoc_kd results
	$(VENV)/bin/python benchmarks/portraits.py
	$(RUN) gsoc_kd calibrate
	$(VENV)/bin/python benchmarks/sample.py $(if $(PEER),--peer $(PEER)) --write docs/Deployment.md
	$(VENV)/bin/python benchmarks/explore.py --screenshot docs/explorer.png
	$(VENV)/bin/python notebooks/execute.py

tables: $(STAMP)
	$(VENV)/bin/python benchmarks/studies.py speed
	$(VENV)/bin/python benchmarks/studies.py tables
	$(VENV)/bin/python benchmarks/faults.py --write docs/Training.md
	$(if $(PEER),$(VENV)/bin/python benchmarks/distill.py --peer $(PEER) --write docs/Training.md)
	$(if $(OFFICIAL),$(VENV)/bin/python benchmarks/teacher.py --peer $(OFFICIAL) --write docs/Teacher-Network.md)

# The rows that the pages show; figures are kept in benchmarks/results. Until it is called, tables tell of students of the
# teacher that they were made with, and say so.
studies: $(STAMP)
	for study in levers frontier equal-cost ablations; do \
	  $(VENV)/bin/python benchmarks/studies.py $$study --shown || exit; done

judge: $(STAMP)
	$(RUN) gsoc_kd train-judge
	$(RUN) gsoc_kd reference

# Exit code 3 (make's "Error 3") says that there is more to do: call it again.
reference: $(STAMP)
	$(VENV)/bin/python benchmarks/full_scale.py $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
