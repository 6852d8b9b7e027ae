# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
VENV ?= .venv
PY := $(VENV)/bin/python
OUT ?= runs/demo
export TOKENIZERS_PARALLELISM = false
export HF_HUB_OFFLINE ?= 1

.PHONY: help setup house attack mutants demo test test-slow test-fused truth truth-full bench bench-gpu train-demo payload notebooks browser docs readme clean
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/.ready: settings.ini setup.py constraints.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## make .venv with pinned versions (1–3 minutes)

demo: setup ## frames of the bundled scenes → payloads → heatmaps in runs/demo
	$(PY) tools/demo.py $(OUT)

test: setup ## sync, lint, types, browser and all notebooks; closes with "N passed, N failed"
	$(PY) tools/run_tests.py

test-slow: setup ## as test, with the slow cells
	$(PY) tools/run_tests.py --flags slow

truth: setup ## score maps, objects and sources on fresh scenes with known causes: tables, truth/results.json and effects.json
	$(PY) -m experiment.truth scores
	$(PY) -m experiment.truth effects

truth-full: setup ## as truth, with every method of the catalogue: an hour and more
	$(PY) -m experiment.truth scores --full --out truth/full.json

test-fused: setup ## the Triton kernels in Triton's interpreter, on a processor without CUDA
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[triton]'
	TRITON_INTERPRET=1 $(PY) tools/run_tests.py 06_capture/04_fused 06_capture/06_streaming

bench: setup ## time and memory of every way to a map: table, bench/results.json, bench/results.png
	$(PY) -m experiment.lab bench --tiles 1 2
	$(PY) -m experiment.lab bench --tiles 7 13 --variants sdpa streaming cheap --repeats 2
	$(PY) -m experiment.lab bench --tiles 2 --text 512 2048 --dtypes float32 --repeats 3
	$(PY) -m experiment.lab bench --tiles 13 --layers 24 --dtypes bfloat16 --variants streaming cheap --repeats 1

bench-gpu: setup ## the same on a CUDA card at full depth, within eight minutes: bench/gpu.json
	$(PY) -m experiment.lab bench-gpu

train-demo: setup ## train the bundled model from its seed, then make the bundled payload with it
	$(PY) -m experiment.lab train-demo
	$(MAKE) payload

payload: setup ## make the bundled payload with the bundled model
	$(PY) -m experiment.simlingo_vit_qwen_attn_grad experiment/data/scenes/approach/video_garmin/0016.png --target -forward_speed --certify --force --out runs/payload
	cp runs/payload/pt/0016.pt experiment/data/payload/approach_0016.pt

notebooks: setup ## every notebook top to bottom in a real kernel, without the slow cells (tools/notebooks.py --slow: with them)
	$(PY) tools/notebooks.py

browser: setup ## the explorer in JupyterLab and Chromium; screenshots in runs/browser
	$(PY) tools/browser_test.py --timed

docs: setup ## static site with search in _docs, read from the folder; every page is opened in Chromium
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(PY) -W ignore tools/docs.py
	$(PY) tools/docs.py --check

readme: setup ## run nbs/index.ipynb and write README.md from it
	$(PY) tools/notebooks.py --save index
	$(PY) tools/readme.py --write

house: setup ## measure cells, lines, names and imports, and name every offence against the rules of the house
	$(PY) tools/house.py
	$(PY) tools/house.py --check

attack: setup ## 20 000 broken and hostile records from a seed: what became of every kind, about ten minutes
	$(PY) -m experiment.lab fuzz --count 20000 --workers 2

mutants: setup ## deliberate faults over every module, and the faults that no test notices: runs/mutants.json
	$(PY) tools/mutants.py

clean: ## remove what the other targets made
	rm -rf $(VENV) runs build *.egg-info _docs _proc .mypy_cache .ruff_cache
