"""The compiled pipeline: every step has its image, nodes, EPC, and the keys of its own artifacts, and no others."""

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest

from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT, SGX_TAINT
from strongroom.errors import ConfigurationError
from strongroom.pipelines.compile import Placement, compile_pipeline
from strongroom.pipelines.prepare import STEP_NAMES
from strongroom.pipelines.steps import WORKLOADS
from strongroom.workload import load_workload

yaml = pytest.importorskip("yaml")
pytest.importorskip("kfp")

IMAGE = "registry.example.com/strongroom-pipeline@sha256:" + "a" * 64

# step -> (inputs, outputs), each an artifact that a key of the same name opens. Only the first step has a key to data
# that is not an artifact: the owner's sealed loan book.
ARTIFACTS = {
    "load-data": (("source",), ("credit_risk_dataset",)),
    "create-train-test-set": (
        ("credit_risk_dataset",),
        ("x_train_data", "y_train_data", "x_test_data", "y_test_data"),
    ),
    "preprocess-features": (
        ("x_train_data", "x_test_data"),
        ("x_train_processed", "x_test_processed", "preprocessor"),
    ),
    "train-xgboost-model": (("x_train_processed", "y_train_data"), ("xgb_model",)),
    "convert-xgboost-to-daal4py": (("xgb_model", "preprocessor"), ("daal4py_model",)),
    "daal4py-inference": (("x_test_processed", "y_test_data", "daal4py_model"), ("prediction_data", "report")),
    "plot-roc-curve": (("prediction_data",), ()),
}
EPC_MIB = {
    "load-data": 1024,
    "create-train-test-set": 1024,
    "preprocess-features": 1024,
    "train-xgboost-model": 2048,
    "convert-xgboost-to-daal4py": 512,
    "daal4py-inference": 1024,
    "plot-roc-curve": 512,
}


def key_of(artifact: str) -> str:
    return f"pipeline/key/{artifact.replace('_', '-')}"


def compiled(folder: Path, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    out = folder / "pipeline.yaml"
    compile_pipeline(Placement(image=IMAGE, **changes), out)
    pipeline, platform = yaml.safe_load_all(out.read_text())
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return compiled(tmp_path_factory.mktemp("compiled"), sources="loan-books")


@pytest.fixture(scope="module")
def pipeline(documents: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


@pytest.fixture(scope="module")
def platform(documents: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return documents[1]


def container(pipeline: dict[str, Any], step: str) -> dict[str, Any]:
    found: dict[str, Any] = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    return found


def test_the_seven_steps_and_the_reference_s_inputs(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    assert set(pipeline["deploymentSpec"]["executors"]) == {f"exec-{step}" for step in ARTIFACTS}
    assert set(platform) == {f"exec-{step}" for step in ARTIFACTS}
    assert set(STEP_NAMES) == set(ARTIFACTS)
    inputs = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name: value["parameterType"] for name, value in inputs.items()} == {
        "data_url": "STRING",
        "data_size": "NUMBER_INTEGER",
    }


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_step_runs_on_the_reference_s_nodes(platform: dict[str, Any], step: str) -> None:
    assert platform[f"exec-{step}"]["nodeSelector"] == {"labels": {"intelvm": "sgx"}}


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_step_is_let_onto_the_nodes_that_azure_template_makes(platform: dict[str, Any], step: str) -> None:
    assert platform[f"exec-{step}"]["tolerations"] == [SGX_TAINT]


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_enclave_reaches_the_quote_helper(platform: dict[str, Any], step: str) -> None:
    mounts = {mount["mountPath"]: mount["constant"] for mount in platform[f"exec-{step}"]["pvcMount"]}
    assert mounts["/var/run/aesmd"] == "quote-helper"


def test_on_confidential_nodes_every_step_reaches_the_relay(tmp_path: Path) -> None:
    pipeline, platform = compiled(tmp_path, overlay="aks-cvm")
    for step in ARTIFACTS:
        executor = platform[f"exec-{step}"]
        assert "accelerator" not in container(pipeline, step)["resources"]
        assert "sgx.intel.com/quote-provider" not in executor["podMetadata"]["annotations"]
        assert executor["tolerations"] == [CONFIDENTIAL_TAINT]
        assert executor["nodeSelector"] == {"labels": {"agentpool": "confvm"}}
        (mount,) = executor["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("evidence", "/run/strongroom-evidence")


def test_on_any_cluster_every_step_is_simulated_and_says_so(tmp_path: Path) -> None:
    pipeline, platform = compiled(tmp_path, overlay="simulated")
    for step in ARTIFACTS:
        executor = platform[f"exec-{step}"]
        assert "accelerator" not in container(pipeline, step)["resources"]
        assert not {"nodeSelector", "tolerations", "pvcMount"} & executor.keys()
        environment = {entry["name"]: entry["value"] for entry in container(pipeline, step)["env"]}
        assert environment["STRONGROOM_PLATFORM"] == "simulated"
        (secret,) = executor["secretAsVolume"]
        assert secret["mountPath"] == environment["STRONGROOM_SIMULATED_MACHINE"]
        assert secret["secretName"] == "strongroom-simulated-machine"


@pytest.mark.parametrize("label", ["y", "1e3", "0o17", "null"])
def test_a_text_that_yaml_could_mistake_is_quoted(tmp_path: Path, label: str) -> None:
    _, platform = compiled(tmp_path, node_selector={"sgx": label})
    assert platform["exec-load-data"]["nodeSelector"] == {"labels": {"sgx": label}}
    assert f'sgx: "{label}"' in (tmp_path / "pipeline.yaml").read_text()


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_step_asks_for_its_protected_memory_in_whole_bytes(pipeline: dict[str, Any], step: str) -> None:
    accelerator = container(pipeline, step)["resources"]["accelerator"]
    assert accelerator["resourceType"] == "sgx.intel.com/epc"
    assert accelerator["resourceCount"] == str(EPC_MIB[step] * 1024 * 1024)
    assert load_workload(WORKLOADS / step / "workload.toml").resources.epc_mib == EPC_MIB[step]


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_step_may_have_the_keys_of_its_artifacts_and_no_others(platform: dict[str, Any], step: str) -> None:
    inputs, outputs = ARTIFACTS[step]
    expected = sorted(key_of(name) for name in (*inputs, *outputs))
    metadata = platform[f"exec-{step}"]["podMetadata"]
    assert metadata["annotations"]["strongroom/keys"].split() == expected
    assert metadata["labels"]["strongroom/workload"] == step
    workload = load_workload(WORKLOADS / step / "workload.toml")
    assert sorted(workload.keys.values()) == expected
    assert {mount.path: mount.mode for mount in workload.mounts} == {
        **dict.fromkeys(inputs, "read"),
        **dict.fromkeys(outputs, "read-write"),
    }


@pytest.mark.parametrize("step", ARTIFACTS)
def test_every_step_has_image_resources_deadline_and_no_root(
    pipeline: dict[str, Any], platform: dict[str, Any], step: str
) -> None:
    assert container(pipeline, step)["image"] == IMAGE
    resources = container(pipeline, step)["resources"]
    assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"]
    assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"]
    executor = platform[f"exec-{step}"]
    assert executor["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
    assert int(executor["activeDeadlineSeconds"]) > 0
    assert executor["configMapAsVolume"][0]["mountPath"] == "/etc/strongroom/room"
    environment = {entry["name"]: entry["value"] for entry in container(pipeline, step)["env"]}
    assert environment["STRONGROOM_ROOM"] == "/etc/strongroom/room"
    assert environment["STRONGROOM_PLATFORM"] == "auto"


@pytest.mark.parametrize("step", ARTIFACTS)
def test_no_step_is_cached_because_a_cached_step_proves_nothing(pipeline: dict[str, Any], step: str) -> None:
    assert pipeline["root"]["dag"]["tasks"][step]["cachingOptions"] == {}


def test_no_step_installs_anything_when_it_runs(pipeline: dict[str, Any]) -> None:
    for step in ARTIFACTS:
        assert "pip install" not in " ".join(container(pipeline, step)["command"])


def test_only_the_first_step_sees_the_owner_s_loan_books(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    mounted = {
        step
        for step in ARTIFACTS
        if "loan-books" in [mount["constant"] for mount in platform[f"exec-{step}"]["pvcMount"]]
    }
    told = {
        step
        for step in ARTIFACTS
        if any(entry["name"] == "STRONGROOM_PIPELINE_SOURCES" for entry in container(pipeline, step)["env"])
    }
    assert mounted == told == {"load-data"}


def test_the_body_of_a_step_is_one_call_into_the_package() -> None:
    from strongroom.pipelines.definition import STEPS

    for component in STEPS.values():
        tree = ast.parse(textwrap.dedent(inspect.getsource(component.python_func)))
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "steps"
        ]
        assert len(calls) == 1, component.name


def test_the_same_pipeline_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        compile_pipeline(Placement(image=IMAGE), tmp_path / name)
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()


def test_refuses_a_file_kubeflow_can_t_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        compile_pipeline(Placement(image=IMAGE), tmp_path / "pipeline.txt")


def test_refuses_a_folder_without_the_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        compile_pipeline(Placement(image=IMAGE, workloads=tmp_path), tmp_path / "pipeline.yaml")
