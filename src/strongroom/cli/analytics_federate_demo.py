"""The federated demonstration: what each party would do on its own machine, as processes on this one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from strongroom.cli.owner import say
from strongroom.cli.trial import free_port
from strongroom.errors import UnavailableError, WouldOverwrite

PARTIES: Final = 3
MEMBERSHIP: Final = "fl/key/federation"
SQL: Final = (
    "SELECT tripDistance, passengerCount, hour(tpepPickupDateTime) AS hour, "
    "date_diff('second', tpepPickupDateTime, tpepDropoffDateTime) AS seconds, "
    "CAST(fareAmount > 12 AS INTEGER) AS label FROM trips WHERE fareAmount > 0"
)
# What a child may inherit: nothing with a setting or a secret of the caller in it.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
TIMEOUT_S: Final = 300
GRACE_S: Final = 60


def run_demo(folder: Path, *, rows: int, rounds: int) -> dict[str, Any]:
    """Make three parties, let them train, and score the model on trips that none of them has.

    Args:
        folder: New folder.
        rows: Trips of each party.
        rounds: Boosting rounds.

    Returns:
        Digests of the models (all the same), rows, and area under the curve.

    Raises:
        WouldOverwrite: The folder exists.
        UnavailableError: A party or the coordinator failed.
    """
    if folder.exists():
        raise WouldOverwrite(f"{folder} exists", hint="name a new folder")
    secret = os.urandom(32)
    parties = [_Party(folder / f"party-{rank}", rank, secret) for rank in range(PARTIES)]
    for party in parties:
        party.make_rows(rows)
        say(f"party {party.rank}: {rows:,} trips sealed under {party.key}")
    address = f"127.0.0.1:{free_port()}"
    _write_key(folder / "coordinator", MEMBERSHIP, secret)
    coordinator = _start(
        ["coordinator", "--coordinator", address, "--parties", str(PARTIES), "--secret", MEMBERSHIP],
        folder / "coordinator",
        heard=False,
    )
    running: list[subprocess.Popen[str]] = []
    try:
        for party in parties:
            running.append(party.train(address, rounds))  # what was started is ended, whatever fails
        answers = [_answer(process, f"party {rank}") for rank, process in enumerate(running)]
    finally:
        for process in (*running, coordinator):
            process.kill()
            process.wait()
    models = [party.model() for party in parties]
    return {
        "model": answers[0]["model"],
        "same_at_all_parties": len({answer["model"] for answer in answers}) == 1 and len(set(models)) == 1,
        "rows": [answer["rows"] for answer in answers],
        "area_under_curve": round(_score(models[0]), 4),
    }


class _Party:
    def __init__(self, folder: Path, rank: int, secret: bytes) -> None:
        self.folder, self.rank = folder, rank
        self.key, self.model_key = f"party{rank}/key/rows", f"party{rank}/key/model"
        for name, value in ((self.key, os.urandom(32)), (self.model_key, os.urandom(16)), (MEMBERSHIP, secret)):
            _write_key(folder, name, value)

    def make_rows(self, rows: int) -> None:
        command = ["sample-taxi", "trips", "--rows", str(rows), "--seed", str(self.rank), "--key", self.key]
        ended = _run([*_COMMAND, *command, *_OPTIONS], self.folder)
        if ended.returncode:
            raise UnavailableError(f"party {self.rank} has no rows: {ended.stderr[-300:]}", code="federate.demo")

    def train(self, address: str, rounds: int) -> "subprocess.Popen[str]":
        options = {
            "--table": "trips",
            "--coordinator": address,
            "--parties": str(PARTIES),
            "--rank": str(self.rank),
            "--secret": MEMBERSHIP,
            "--model": "model.sealed",
            "--model-key": self.model_key,
            "--rounds": str(rounds),
            "--receipt": "receipt.json",
            "--timeout": str(TIMEOUT_S),
        }
        return _start(["party", SQL, *(text for pair in options.items() for text in pair)], self.folder)

    def model(self) -> bytes:
        from strongroom.room.files import ANY_PATH, open_sealed

        key = (self.folder / "keys" / self.model_key).read_bytes()
        with open_sealed(self.folder / "model.sealed", key, sealed_path=ANY_PATH) as file:
            return file.read()


def _write_key(folder: Path, name: str, value: bytes) -> None:
    path = folder / "keys" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(value)


_COMMAND: Final = (sys.executable, "-m", "strongroom", "analytics")
_OPTIONS: Final = ("--keys", "keys", "--state", "state")


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def _start(arguments: list[str], folder: Path, *, heard: bool = True) -> "subprocess.Popen[str]":
    stream = subprocess.PIPE if heard else subprocess.DEVNULL
    return subprocess.Popen(
        [*_COMMAND, "federate", *arguments, *_OPTIONS],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        text=True,
    )


def _answer(process: "subprocess.Popen[str]", who: str) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S + GRACE_S)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{who} did not end in time", code="federate.demo") from None
    if process.returncode:
        raise UnavailableError(f"{who} failed: {err.strip()[-300:]}", code="federate.demo")
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def _score(model: bytes) -> float:
    """Area under the curve on trips of another seed."""
    import numpy as np
    import pyarrow as pa
    import xgboost

    from strongroom.analytics.taxi.generator import generate_month

    trips = pa.concat_tables(list(generate_month(2018, 5, 5000, 99)))
    booster = xgboost.Booster()
    booster.load_model(bytearray(model))
    pickup, dropoff = (
        np.asarray(trips[name].cast(pa.int64())) for name in ("tpepPickupDateTime", "tpepDropoffDateTime")
    )
    columns = {
        "tripDistance": np.asarray(trips["tripDistance"]),
        "passengerCount": np.asarray(trips["passengerCount"]),
        "hour": pickup // 3_600_000_000 % 24,
        "seconds": (dropoff - pickup) // 1_000_000,
    }
    matrix = xgboost.DMatrix(np.column_stack(list(columns.values())).astype(np.float32), feature_names=list(columns))
    scores = booster.predict(matrix)
    positive = np.asarray(trips["fareAmount"]) > 12
    ranks = scores.argsort().argsort() + 1
    ones = int(positive.sum())
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones)))
