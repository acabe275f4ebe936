# Two commands do everything on a machine that has only Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
FEDERATED := $(VENV)/federated
TENSORFLOW := $(VENV)/tensorflow
DATA   ?=
OUT    ?= demo-room

.PHONY: help demo test test-all test-slow test-federated test-tensorflow lint lock clean

help:
	@echo "make demo [DATA=loans.csv]   the loan-default job, attested end to end (simulated platform)"
	@echo "make test                    the tests;   make test-all: also the long ones"
	@echo "make test-federated          federated training, with the XGBoost that has the communicator"
	@echo "make test-tensorflow         the model server, with TensorFlow Serving's own client (2 GB)"
	@echo "make lint                    ruff, mypy, import-linter"
	@echo "make lock                    renew the hash-pinned lock files"

# install(lock): the virtual environment with exactly the libraries of one lock file, and Strongroom in it.
define install
$(PYTHON) -c 'import sys; sys.exit("Strongroom needs Python 3.11 to 3.13") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

$(STAMP): requirements/dev.lock pyproject.toml
	$(call install,requirements/dev.lock)
	touch $@ $(DEMO_STAMP)

# The demonstration needs a small part of it.
$(DEMO_STAMP): requirements/demo.lock pyproject.toml
	$(call install,requirements/demo.lock)
	touch $@

demo: $(DEMO_STAMP)
	$(BIN)/strongroom demo --out $(OUT) $(if $(DATA),--data "$(DATA)")

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2

# The long tests of PARTS (folders below tests); there may be none.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2 --durations=12 $(PARTS) || [ $$? = 5 ]

# second(folder, lock): another environment with the libraries of one lock; everything else is the first one's.
define second
$(BIN)/python -m venv $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(2)
$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	> "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth"
endef

# xgboost in place of xgboost-cpu.
$(FEDERATED)/.installed: $(STAMP) requirements/federated.lock
	$(call second,$(FEDERATED),requirements/federated.lock)
	touch $@

test-federated: $(FEDERATED)/.installed
	$(FEDERATED)/bin/python -m pytest tests/analytics/test_federated_traffic.py tests/analytics/test_federated_attested.py

# TensorFlow, about 2 GB, which the server does not need.
$(TENSORFLOW)/.installed: $(STAMP) requirements/tensorflow.lock
	$(call second,$(TENSORFLOW),requirements/tensorflow.lock)
	touch $@

test-tensorflow: $(TENSORFLOW)/.installed
	$(TENSORFLOW)/bin/python -m pytest tests/serving/test_public_client.py tests/serving/test_wire.py

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock:
	$(LOCK) pyproject.toml --extra loan --extra serving --extra xgboost --extra onnx --extra onedal --extra openvino --extra analytics --extra spark --extra pipelines --extra deployment --extra postgresql --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml --extra loan --group build -o requirements/demo.lock
	$(LOCK) --group build -o requirements/images/build.lock
	$(LOCK) pyproject.toml -o requirements/images/relay.lock
	$(LOCK) pyproject.toml --extra postgresql -o requirements/images/broker.lock
	$(LOCK) pyproject.toml --extra loan --extra onedal -o requirements/images/loan.lock
	$(LOCK) pyproject.toml --extra serving --extra loan --extra xgboost --extra onnx -o requirements/images/serving.lock
	$(LOCK) pyproject.toml --extra analytics --extra spark -o requirements/images/spark.lock
	$(LOCK) pyproject.toml --extra pipelines --extra loan --extra onedal -o requirements/images/pipeline.lock
	echo 'xgboost>=3.2,<4' | $(LOCK) --no-deps - -o requirements/federated.lock
	echo 'tensorflow-serving-api>=2.19,<3' | $(LOCK) -c requirements/dev.lock - -o requirements/tensorflow.lock

clean:
	rm -rf $(VENV) demo-room .mypy_cache .ruff_cache .pytest_cache .hypothesis
