"""Heavy libraries load only when they are used."""

import subprocess
import sys

import pytest

HEAVY = (
    "cryptography",
    "dcap_qvl",
    "fastapi",
    "httpx",
    "joserfc",
    "numpy",
    "pyarrow",
    "pydantic_settings",
    "sklearn",
    "sqlalchemy",
    "xgboost",
    "matplotlib",
    "pyspark",
    "kfp",
)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
sys.argv = ["strongroom", *{arguments!r}]
from strongroom.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_owners_commands_load_no_part_of_the_server() -> None:
    program = """
import sys
import strongroom.broker.client
loaded = [name for name in ("sqlalchemy", "fastapi", "uvicorn", "dcap_qvl") if name in sys.modules]
assert not loaded, loaded
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_every_noun_in_the_table_can_be_imported() -> None:
    import importlib

    from strongroom.cli.main import NOUNS

    assert NOUNS
    for module, attribute, help_line in NOUNS.values():
        assert hasattr(importlib.import_module(module), attribute), (module, attribute)
        assert help_line.endswith(".")
