"""`strongroom policy`: what a ra_config.json means becomes a policy, what it let in is said."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.policy import AppraisalPolicy, EnclaveIdentity, SignerIdentity
from strongroom.cli.policy_file import load_policy, render_policy

Command = Callable[..., Any]
ENTRY = {"mr_enclave": "ab" * 32, "mr_signer": "cd" * 32, "isv_prod_id": "7", "isv_svn": "3"}
FIELDS = ("mr_enclave", "mr_signer", "isv_prod_id", "isv_svn")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    def write(*, on: tuple[str, ...] = FIELDS, entries: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
        switches = {f"verify_{name}": "on" if name in on else "off" for name in FIELDS}
        file = tmp_path / "ra_config.json"
        file.write_text(json.dumps(switches | {"mrs": [ENTRY] if entries is None else entries} | changes))
        return file

    return write


def test_all_four_fields_of_an_entry_must_match(
    strongroom: Command, config: Callable[..., Path], tmp_path: Path
) -> None:
    ended = strongroom("policy", "import", config(), "--svn-as-minimum", "--out", "policy.toml")
    assert ended.status == 0, ended.err
    policy = load_policy(tmp_path / "policy.toml")
    assert policy.measurements == (EnclaveIdentity(b"\xab" * 32, SignerIdentity(b"\xcd" * 32, 7, 3)),)
    assert policy.tcb_statuses == frozenset({"UpToDate"})
    assert not policy.accept_simulated


def test_says_loudly_what_the_old_server_let_in(strongroom: Command, config: Callable[..., Path]) -> None:
    ended = strongroom("policy", "import", config(verify_mr_enclave=True), "--svn-as-minimum")
    assert "warning: ra_config.debug_allowed" in ended.err
    assert "warning: ra_config.boolean_switch" in ended.err
    assert "warning: ra_config.number_in_string" in ended.err
    assert tomllib.loads(ended.out)["measurements"]


def test_exact_svn_is_not_silently_made_a_minimum(strongroom: Command, config: Callable[..., Path]) -> None:
    ended = strongroom("policy", "import", config())
    assert ended.status == 2
    assert "[policy.exact_svn]" in ended.err
    assert not ended.out


def test_minimum_svn_named_in_the_file_needs_no_option(strongroom: Command, config: Callable[..., Path]) -> None:
    entry: dict[str, Any] = {**ENTRY, "minimum_isv_svn": 4}
    del entry["isv_svn"]
    ended = strongroom("policy", "import", config(entries=[entry]))
    assert ended.status == 0, ended.err
    assert tomllib.loads(ended.out)["measurements"][0]["min_isv_svn"] == 4


def test_signer_alone_becomes_a_signer_identity(strongroom: Command, config: Callable[..., Path]) -> None:
    ended = strongroom("policy", "import", config(on=("mr_signer", "isv_prod_id")))
    (measurement,) = tomllib.loads(ended.out)["measurements"]
    assert measurement == {"mr_signer": "cd" * 32, "isv_prod_id": 7, "min_isv_svn": 0}


@pytest.mark.parametrize(
    ("on", "code"),
    [
        ((), "policy.any_code"),
        (("isv_prod_id",), "policy.any_code"),
        (("mr_signer",), "policy.any_product"),
        (("mr_enclave", "mr_signer"), "policy.any_product"),
    ],
)
def test_refuses_what_no_policy_may_say(
    strongroom: Command, config: Callable[..., Path], on: tuple[str, ...], code: str
) -> None:
    ended = strongroom("policy", "import", config(on=on))
    assert ended.status == 2
    assert f"[{code}]" in ended.err
    assert not ended.out


def test_refuses_a_file_that_accepts_nobody(strongroom: Command, config: Callable[..., Path]) -> None:
    assert "[policy.nobody]" in strongroom("policy", "import", config(entries=[])).err


def test_refuses_a_malformed_file(strongroom: Command, config: Callable[..., Path]) -> None:
    assert strongroom("policy", "import", config(verify_isv_svn="yes")).status == 3


def test_refuses_to_overwrite(strongroom: Command, config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("mine")
    assert strongroom("policy", "import", config(), "--svn-as-minimum", "--out", "policy.toml").status == 2
    assert (tmp_path / "policy.toml").read_text() == "mine"


def test_show_reads_back_what_import_wrote(strongroom: Command, config: Callable[..., Path], tmp_path: Path) -> None:
    strongroom("policy", "import", config(), "--svn-as-minimum", "--out", "policy.toml")
    ended = strongroom("policy", "show", "policy.toml", "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["policy_digest"] == load_policy(tmp_path / "policy.toml").digest.hex()
    assert "warning" not in ended.err


def test_show_warns_of_dangerous_permissions(strongroom: Command, tmp_path: Path) -> None:
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(b"\xab" * 32),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate", "OutOfDate"}),
        advisories=(),
        min_tcb_eval_data_number=17,
        accept_simulated=True,
    )
    (tmp_path / "p.toml").write_text(render_policy(policy, ["a comment"]))
    assert load_policy(tmp_path / "p.toml") == policy
    ended = strongroom("policy", "show", "p.toml")
    assert "SIMULATED" in ended.err


@pytest.mark.parametrize("text", ["", "tees = [", 'tees = ["sgx"]', "x = 1\n", "\xff"])
def test_show_refuses_an_incomplete_policy(strongroom: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "p.toml").write_bytes(text.encode("latin-1"))
    assert strongroom("policy", "show", "p.toml").status in {2, 3}
