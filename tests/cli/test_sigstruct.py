"""`strongroom workload measure --sigstruct`: the signature decides what is printed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from strongroom.formats.layout import size_of
from strongroom.formats.sigstruct import HEADER_1, HEADER_2, SIGNED_RANGES, SIGSTRUCT, quotients


def strongroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strongroom", "workload", "measure", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def signed() -> tuple[bytes, bytes]:
    """A SIGSTRUCT as gramine-sgx-sign lays it out, and its MRSIGNER."""
    key = rsa.generate_private_key(3, 3072)  # SGX prescribes the exponent 3
    modulus = key.public_key().public_numbers().n
    raw = bytearray(size_of(SIGSTRUCT))
    offsets = {field.name: (field.offset, field.size) for field in SIGSTRUCT}

    def put(name: str, value: bytes) -> None:
        offset, size = offsets[name]
        raw[offset : offset + size] = value.ljust(size, b"\0")

    put("header_1", HEADER_1)
    put("header_2", HEADER_2)
    put("date", (0x20261121).to_bytes(4, "little"))
    put("modulus", modulus.to_bytes(384, "little"))
    put("exponent", (3).to_bytes(4, "little"))
    put("attributes", (4).to_bytes(8, "little"))
    put("attribute_mask", b"\xff" * 16)
    put("mr_enclave", b"\xab" * 32)
    put("isv_prod_id", (7).to_bytes(2, "little"))
    put("isv_svn", (3).to_bytes(2, "little"))
    message = b"".join(bytes(raw[start:end]) for start, end in SIGNED_RANGES)
    signature = int.from_bytes(key.sign(message, padding.PKCS1v15(), hashes.SHA256()), "big")
    put("signature", signature.to_bytes(384, "little"))
    for name, value in zip(("q1", "q2"), quotients(signature, modulus), strict=True):
        put(name, value.to_bytes(384, "little"))
    return bytes(raw), hashlib.sha256(modulus.to_bytes(384, "little")).digest()


def test_prints_what_sgx_will_measure(tmp_path: Path, signed: tuple[bytes, bytes]) -> None:
    raw, mr_signer = signed
    (tmp_path / "app.sig").write_bytes(raw)
    result = strongroom("--sigstruct", str(tmp_path / "app.sig"), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "simulated": False,
        "mr_enclave": "ab" * 32,
        "mr_signer": mr_signer.hex(),
        "isv_prod_id": 7,
        "isv_svn": 3,
        "debug_allowed": False,
        "date": "2026-11-21",
    }


@pytest.mark.parametrize(("change", "code"), [(960, "sigstruct.signature"), (1026, "sigstruct.signature")])
def test_refuses_an_altered_measurement(tmp_path: Path, signed: tuple[bytes, bytes], change: int, code: str) -> None:
    raw = bytearray(signed[0])
    raw[change] ^= 1
    (tmp_path / "app.sig").write_bytes(raw)
    result = strongroom("--sigstruct", str(tmp_path / "app.sig"))
    assert result.returncode == 3
    assert not result.stdout
    assert code in result.stderr


def test_refuses_a_cut_file(tmp_path: Path, signed: tuple[bytes, bytes]) -> None:
    (tmp_path / "app.sig").write_bytes(signed[0][:-1])
    assert strongroom("--sigstruct", str(tmp_path / "app.sig")).returncode == 3


@pytest.mark.parametrize(("version", "status"), [(3, 0), (4, 2)])
def test_refuses_an_enclave_signed_for_another_version_of_the_workload(
    tmp_path: Path, signed: tuple[bytes, bytes], version: int, status: int
) -> None:
    (tmp_path / "app.sig").write_bytes(signed[0])
    (tmp_path / "job.toml").write_text(
        f'name = "job"\ncommand = ["python3", "x.py"]\nproduct_id = 7\nsecurity_version = {version}\n'
        'trusted_files = ["x.py"]\n'
    )
    result = strongroom(str(tmp_path / "job.toml"), "--sigstruct", str(tmp_path / "app.sig"))
    assert result.returncode == status, result.stderr


def test_needs_a_workload_or_a_signature() -> None:
    assert strongroom().returncode == 2
