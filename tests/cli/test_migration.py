"""The guide "Replace secret_prov_server_dcap", step by step, against a running broker."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.broker.app import create_app
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.provisioning_server import provisioning, provisioning_server
from strongroom.broker.server import listening, serving
from strongroom.broker.settings import load_settings
from strongroom.broker.verifier import trust, verify_with
from strongroom.platforms.simulated import SimulatedMachine

Command = Callable[..., Any]
WRAP_KEY = b"SIXTEEN-BYTE-KEY"


@pytest.fixture
def folder(tmp_path: Path, strongroom: Command) -> Path:
    """A machine, a broker that believes it, a workload and a wrap key."""
    SimulatedMachine.create(tmp_path / "machine", dt.datetime.now(dt.UTC))
    made = strongroom("broker", "init", "broker", "--allow-simulated", "--simulated-machine", "machine")
    assert made.status == 0, made.err
    (tmp_path / "wrap_key").write_bytes(WRAP_KEY)
    (tmp_path / "x.py").write_text("pass\n")
    (tmp_path / "tf-serving.toml").write_text(
        'name = "tf-serving"\ncommand = ["python3", "x.py"]\nproduct_id = 1\nsecurity_version = 1\n'
        'trusted_files = ["x.py"]\n[keys]\nmodel = "serving/key/model"\n'
    )
    return tmp_path


@pytest.fixture
def parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    files = BrokerFolder(folder / "broker")
    believed = trust(files.collateral, files.simulated_root)

    class InProcess:
        def verify(self, quote: bytes, now: dt.datetime) -> Any:
            return verify_with(believed, quote, now)

    opened = open_parts(files, load_settings(files.settings), InProcess())
    with serving(create_app(opened), files, opened.settings) as url:
        settings = files.owner / "owner.toml"
        settings.write_text(settings.read_text().replace("https://localhost:8443", url))
        monkeypatch.setenv("STRONGROOM_OWNER", str(files.owner))
        yield opened
    opened.close()


@pytest.fixture
def server(folder: Path, parts: Parts) -> Iterator[str]:
    service = provisioning_server(parts, BrokerFolder(folder / "broker"))
    with listening("127.0.0.1", 0) as listener, provisioning(service, listener):
        yield f"localhost:{listener.getsockname()[1]}"


@pytest.fixture
def fetch(strongroom: Command, server: str) -> Callable[[str], Any]:
    def run(out: str) -> Any:
        return strongroom(
            "fetch-key", "--server", server, "--ca", "broker/ca.pem", "--out", out,
            "--workload", "tf-serving.toml", "--simulated-machine", "machine",
        )  # fmt: skip

    return run


def test_wrap_key_reaches_the_enclave_that_was_authorized(
    strongroom: Command, folder: Path, fetch: Callable[[str], Any]
) -> None:
    assert strongroom("key", "import", "serving/key/model", "wrap_key").status == 0
    assert fetch("early").status == 4  # nobody was authorized yet
    arguments = ("tf-serving.toml", "--accept-simulated", "--provision", "serving/key/model")
    assert strongroom("authorize", *arguments).status == 0
    assert fetch("got").status == 0
    assert (folder / "got").read_bytes() == WRAP_KEY
    log = strongroom("broker", "log", "--verify")
    assert log.status == 0, log.err
    decisions = [line for line in log.out.splitlines() if " provision " in line]
    assert [line.split()[2] for line in decisions] == ["deny", "allow"]
    assert "grant.none" in decisions[0]
    assert "SIMULATED" in decisions[1]
    assert strongroom("revoke", "tf-serving").status == 0
    assert fetch("late").status == 4


def test_imported_ra_config_does_not_let_a_simulated_or_another_enclave_in(
    strongroom: Command, folder: Path, fetch: Callable[[str], Any]
) -> None:
    fields = ("mr_enclave", "mr_signer", "isv_prod_id", "isv_svn")
    entry = {"mr_enclave": "ab" * 32, "mr_signer": "cd" * 32, "isv_prod_id": "0", "isv_svn": "0"}
    (folder / "ra_config.json").write_text(json.dumps({f"verify_{name}": "on" for name in fields} | {"mrs": [entry]}))
    assert strongroom("key", "import", "serving/key/model", "wrap_key").status == 0
    assert strongroom("policy", "import", "ra_config.json", "--svn-as-minimum", "--out", "policy.toml").status == 0
    arguments = ("tf-serving.toml", "--policy", "policy.toml", "--provision", "serving/key/model")
    ended = strongroom("authorize", *arguments)
    assert ended.status == 0, ended.err
    assert fetch("got").status == 4
    last = strongroom("broker", "log").out.splitlines()[-1]
    assert "measurement.mr_enclave" in last
    assert "simulated.refused" in last


def test_provisioned_key_must_be_one_of_the_workloads(strongroom: Command, parts: Parts) -> None:
    ended = strongroom("authorize", "tf-serving.toml", "--accept-simulated", "--provision", "other/key/x")
    assert ended.status == 3
    assert not parts.grants.all()


@pytest.mark.parametrize("option", [["--accept-simulated"], ["--mr-enclave", "ab" * 32], ["--min-tcb-eval", "0"]])
def test_a_policy_file_and_options_do_not_mix(
    strongroom: Command, parts: Parts, folder: Path, option: list[str]
) -> None:
    ended = strongroom("authorize", "tf-serving.toml", "--policy", "policy.toml", *option)
    assert ended.status == 2
    assert "[authorize.policy]" in ended.err


@pytest.mark.parametrize("content", [b"", bytes(64 * 1024 + 1)])
def test_refuses_to_import_what_is_no_key(strongroom: Command, parts: Parts, folder: Path, content: bytes) -> None:
    (folder / "wrap_key").write_bytes(content)
    assert strongroom("key", "import", "serving/key/model", "wrap_key").status == 2
    assert not parts.keyring.list()


def test_refuses_to_import_over_a_key(strongroom: Command, parts: Parts) -> None:
    assert strongroom("key", "import", "serving/key/model", "wrap_key").status == 0
    assert strongroom("key", "import", "serving/key/model", "wrap_key").status == 2
    assert [key.version for key in parts.keyring.list()] == [1]
