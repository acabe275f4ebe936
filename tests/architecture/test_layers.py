"""The import rules hold, and the checker notices when one is broken on purpose."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    environment = {"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin", "COLUMNS": "300"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_is_kept(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout
    assert "Contracts: 3 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("formats/canonical.py", "import strongroom.broker", "Imports point downward"),
        ("broker/__init__.py", "import strongroom.room", "Imports point downward"),
        ("room/__init__.py", "import strongroom.broker", "Imports point downward"),
        ("ratls/__init__.py", "import strongroom.room", "Imports point downward"),
        ("keys/__init__.py", "import strongroom.cli.main", "Imports point downward"),
        ("formats/canonical.py", "import os", "attestation and formats are pure"),
        ("attestation/__init__.py", "import secrets", "attestation and formats are pure"),
        ("attestation/__init__.py", "from pathlib import Path", "attestation and formats are pure"),
        ("room/__init__.py", "import strongroom.platforms.simulated", "Only the composition may name"),
        ("cli/main.py", "import strongroom.platforms.simulated", "Only the composition may name"),
        ("broker/__init__.py", "import strongroom.platforms.simulated", "Only the composition may name"),
    ],
)
def test_a_broken_rule_is_caught(copy: Path, module: str, line: str, contract: str) -> None:
    target = copy / "src" / "strongroom" / module
    target.write_text(target.read_text() + f"\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode != 0
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert any(contract in text for text in broken), result.stdout
