"""`strongroom manifest`."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "x.py").write_text("pass\n")
    (tmp_path / "ca.pem").write_text("ca\n")
    file = tmp_path / "job.toml"
    file.write_text(
        'name = "job"\ncommand = ["python3", "x.py"]\nproduct_id = 1\nsecurity_version = 1\ntrusted_files = ["x.py"]\n'
        '[keys]\nwrap = "job/key/wrap"\n[[mounts]]\npath = "data"\nkey = "wrap"\nmode = "read"\n'
    )
    return file


def test_renders_to_a_new_file_only(strongroom: Command, job: Path, tmp_path: Path) -> None:
    arguments = ("manifest", "render", job, "--provision-ca", "ca.pem", "--out", "job.manifest.template")
    ended = strongroom(*arguments)
    assert ended.status == 0, ended.err
    assert 'SECRET_PROVISION_SET_KEY = "wrap"' in (tmp_path / "job.manifest.template").read_text()
    assert strongroom(*arguments).status == 2


def test_renders_to_stdout_what_tomllib_reads_where_there_is_no_loop(strongroom: Command, job: Path) -> None:
    text = strongroom("manifest", "render", job).out
    lines = [line for line in text.splitlines() if "{%" not in line and "{{ path" not in line]
    assert tomllib.loads("\n".join(lines).replace("{{", "").replace("}}", ""))["sgx"]["isvprodid"] == 1


def test_check_names_keys_that_are_gone(strongroom: Command, tmp_path: Path) -> None:
    (tmp_path / "old.manifest").write_text('sgx.thread_num = 4\nlibos.entrypoint = "/x"\n')
    ended = strongroom("manifest", "check", "old.manifest", "--json")
    assert ended.status == 4
    assert "sgx.thread_num" in ended.out
    (tmp_path / "new.manifest").write_text('sgx.max_threads = 4\nlibos.entrypoint = "/x"\n')
    assert strongroom("manifest", "check", "new.manifest").status == 0


def test_check_asks_for_the_filled_in_manifest(strongroom: Command, tmp_path: Path) -> None:
    (tmp_path / "x.template").write_text("fs.mounts = [\n{% for p in x %}\n]\n")
    ended = strongroom("manifest", "check", "x.template")
    assert ended.status == 3
    assert "gramine-manifest" in ended.err
