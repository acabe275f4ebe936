"""The container files: linted, and their rules checked; the install steps of one run here, without a container."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "deploy" / "containers").glob("*.Containerfile"))
NAMES = {path.name.removesuffix(".Containerfile") for path in FILES}
COMPILERS = re.compile(r"\b(gcc|g\+\+|build-essential|cmake|clang|make|javac|openjdk-[0-9]+-jdk\S*|python3-dev)\b")


def stages(path: Path) -> list[list[str]]:
    """The instructions of each stage, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found: list[list[str]] = [[]]
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("FROM "):
            found.append([])
        found[-1].append(line)
    return found


def test_every_role_has_one() -> None:
    assert sorted(NAMES) == [
        *("broker", "gramine", "loan", "pipeline", "relay", "serving", "spark", "spark-gramine", "tensorflow-serving")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_images_are_named_by_a_digest_that_the_builder_gives(path: Path) -> None:
    arguments, *rest = stages(path)
    names = {line.removeprefix("ARG ") for line in arguments}
    assert not any("=" in name for name in names), "a default would be a digest that ages"
    known: set[str] = set()
    for stage in rest:
        image = stage[0].split()[1]
        assert image in {"scratch", *known} or any(
            image == f"${{{name}}}" if name.endswith("_IMAGE") else image.endswith(f"@${{{name}}}") for name in names
        ), image
        known |= {stage[0].split()[-1]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_last_stage_runs_as_nobody_and_compiles_nothing(path: Path) -> None:
    last = stages(path)[-1]
    users = [line for line in last if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert not [line for line in last[last.index(users[0]) :] if line.startswith("RUN ")]
    assert not [line for line in last if COMPILERS.search(line)]
    assert not [line for line in last if "pip install" in line]
    assert any(line.startswith('ENTRYPOINT ["') for line in last)
    assert len(stages(path)) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_everything_is_installed_by_hash(path: Path) -> None:
    text = path.read_text()
    installs = re.findall(r"pip install[^\n&]*", text)
    assert installs
    assert all("--require-hashes" in line for line in installs)
    assert not re.search(r"\b(curl|wget|ADD)\b", text)
    for lock in re.findall(r"requirements/images/([a-z]+)\.lock", text):
        assert (ROOT / "requirements" / "images" / f"{lock}.lock").is_file()
    assert "latest" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_secret_gets_into_a_layer(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(ENV|ARG)\s+\S*(KEY|TOKEN|PASSWORD|SECRET)\S*\b", text.replace("enclave-key", ""))
    for line in text.splitlines():
        if "gramine-sgx-sign" in line:
            assert "--mount=type=secret,id=enclave-key,required=true" in text


def test_what_is_copied_is_there() -> None:
    made_by_the_owner = {"site/workloads/tensorflow-serving", "${WORKLOADS}", "${WORKLOADS}/${WORKLOAD}"}
    made_by_the_owner |= {"${WORKLOADS}/spark-driver", "${WORKLOADS}/spark-executor"}
    for path in FILES:
        for stage in stages(path):
            for line in stage:
                if not line.startswith("COPY ") or "--from=" in line:
                    continue
                for source in [part for part in line.split()[1:-1] if not part.startswith("--")]:
                    if source not in made_by_the_owner and "${ROLE}" not in source:
                        assert (ROOT / source).exists(), (path.name, source)


# What a role must be able to do with its own libraries alone; the other Python roles have a part of these.
ABLE: dict[str, list[str]] = {
    "broker": ["broker", "init", "broker", "--host", "broker.strongroom-broker.svc"],
    "serving": ["serve", "--help"],
    "pipeline": ["pipeline", "compile", "--image", "r.example.com/p@sha256:" + "a" * 64, "--out", "pipeline.yaml"],
}
IMPORTS = {
    "broker": "strongroom.broker.server, psycopg",
    "serving": "strongroom.serving.server, xgboost, onnxruntime",
    "pipeline": "strongroom.pipelines.steps, kfp.kubernetes",
}


@pytest.mark.slow
@pytest.mark.parametrize("role", ABLE)
def test_the_install_steps_run_in_a_fresh_place(tmp_path: Path, role: str) -> None:
    """The RUN lines of the build stage, with its paths moved below a temporary folder."""
    source, target, build = tmp_path / "src", tmp_path / "strongroom", tmp_path / "build"
    source.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements" / "images", source / "requirements" / "images")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path),
                   "SOURCE_DATE_EPOCH": "0"}  # fmt: skip
    for line in stages(ROOT / "deploy" / "containers" / f"{role}.Containerfile")[1]:
        if line.startswith("RUN "):
            step = line.removeprefix("RUN ").replace("/opt/strongroom", str(target)).replace("/opt/build", str(build))
            run(["sh", "-c", step], source, environment)
    shutil.rmtree(source)
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    run([str(target / "bin" / "python"), "-c", f"import {IMPORTS[role]}"], tmp_path, clean)
    run([str(target / "bin" / "strongroom"), *ABLE[role]], tmp_path, clean)
    assert not list((target / "bin").glob("*gcc*"))
    shutil.rmtree(tmp_path)  # some are large


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, (command, done.stderr[-3000:])
