"""From a machine's evidence to a policy: show, pin, authorize; and the relay as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.cli.policy_file import load_policy, render_policy
from strongroom.cli.policy_pin import policy_of
from strongroom.errors import ConfigurationError
from strongroom.formats.evidence import serialize_evidence
from strongroom.formats.hcl import report_data_of

if TYPE_CHECKING:
    from tests.guest_double import AmdDouble, VtpmDouble

Command = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path, amd: "AmdDouble", vtpm: "VtpmDouble") -> dict[str, Path]:
    azure = serialize_evidence(vtpm.parts(amd.parts(report_data_of(vtpm.runtime_data())), bytes(64)))
    paths = {"snp": tmp_path / "snp.bin", "azure": tmp_path / "azure.bin"}
    paths["snp"].write_bytes(amd.evidence())
    paths["azure"].write_bytes(azure)
    return paths


def test_show_says_what_can_be_pinned(strongroom: Command, files: dict[str, Path]) -> None:
    ended = strongroom("platform", "show", files["azure"])
    assert ended.status == 0, ended.err
    shown = json.loads(ended.out)
    assert (shown["tee"], shown["verified"], shown["measurement"]) == ("az-snp-vtpm", False, "5a" * 48)
    assert shown["pcrs"]["4"] == "04" * 32
    assert shown["reported_tcb"] == {"bootloader": 4, "tee": 1, "snp": 24, "microcode": 219}
    copied = strongroom("platform", "show", files["snp"], "--out", "copy.bin")
    assert copied.status == 0, copied.err
    assert "pcrs" not in json.loads(copied.out)


def test_what_is_no_evidence_is_malformed(strongroom: Command, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"strongroom-tee-1 but not quite")
    assert strongroom("platform", "show", "x").status == 3
    assert strongroom("platform", "show", "absent").status == 2


@pytest.mark.parametrize("kind", ["snp", "azure"])
def test_a_pinned_policy_is_shown_and_read_back(
    strongroom: Command, files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    options = ["--pcr", "4", "--pcr", "11"] if kind == "azure" else []
    ended = strongroom("policy", "pin", files[kind], *options, "--out", "policy.toml")
    assert ended.status == 0, ended.err
    policy = load_policy(tmp_path / "policy.toml")
    assert policy == policy_of(files[kind].read_bytes(), (4, 11) if kind == "azure" else ())
    assert tomllib.loads(render_policy(policy)) == policy.to_json()
    values: Any = policy.to_json()
    assert values["snp"]["min_tcb"]["milan"]["microcode"] == 219
    assert ("pcrs" in values["measurements"][0]) == (kind == "azure")
    assert strongroom("policy", "show", "policy.toml").status == 0


def test_an_azure_guest_without_registers_cannot_be_pinned(strongroom: Command, files: dict[str, Path]) -> None:
    assert strongroom("policy", "pin", files["azure"]).status == 2
    assert strongroom("policy", "pin", files["snp"], "--pcr", "4").status == 2
    with pytest.raises(ConfigurationError):
        policy_of(files["azure"].read_bytes(), ())


def test_a_relay_needs_a_platform(strongroom: Command, tmp_path: Path) -> None:
    ended = strongroom("platform", "relay", "--socket", tmp_path / "s")
    assert ended.status == 2
    assert "no trusted execution environment" in ended.err
    assert strongroom("platform", "relay", "--socket", tmp_path / "s", "--mode", "888").status == 2


def test_a_named_socket_must_be_one(tmp_path: Path) -> None:
    environment = {**os.environ, "STRONGROOM_EVIDENCE_SOCKET": str(tmp_path / "absent")}
    ended = subprocess.run(
        [sys.executable, "-m", "strongroom", "platform", "detect"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "is no socket" in ended.stderr


RELAY = """
import sys, threading
import strongroom.platforms.detect as detection
socket, evidence = sys.argv[1:]
class Platform:
    name, tee, simulated = "snp", "snp", True
    def quote(self, report_data):
        return open(evidence, "rb").read()
detection.detect = lambda **_: Platform()
from strongroom.cli.main import main
sys.argv = ["strongroom", "platform", "relay", "--socket", socket]
main()
"""


def test_the_relay_serves_until_it_is_told_to_end(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    socket = tmp_path_factory.mktemp("r") / "s"
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, str(socket), str(files["snp"])], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "relaying evidence of snp" in process.stderr.readline()
        while not socket.is_socket():
            assert process.poll() is None
        found = subprocess.run(
            [sys.executable, "-m", "strongroom", "platform", "detect", "--json"],
            env={**os.environ, "STRONGROOM_EVIDENCE_SOCKET": str(socket)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == {"platform": "relay", "tee": "snp"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not socket.exists()
    finally:
        process.kill()
        process.communicate()


def test_amd_collateral_is_checked_by_amds_own_keys(strongroom: Command, tmp_path: Path, amd: "AmdDouble") -> None:
    assert strongroom("broker", "init", "broker").status == 0
    collateral = amd.collateral()
    (tmp_path / "chain").write_text(collateral.issuer_chain)
    (tmp_path / "crl").write_bytes(collateral.crl)
    options = ("--product", "milan", "--chain", "chain", "--crl", "crl")
    ended = strongroom("broker", "amd-collateral", "broker", *options)
    assert ended.status == 3
    assert "trusted root key" in ended.err
    assert strongroom("broker", "amd-collateral", "broker", "--product", "milan").status == 2
    nothing = strongroom("broker", "amd-collateral", "broker", "--json")
    assert (nothing.status, json.loads(nothing.out)) == (0, [])
