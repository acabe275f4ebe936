"""One party: thin around XGBoost's federated communicator."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from strongroom.analytics.federated.certificates import Identity
from strongroom.analytics.federated.federation import Federation
from strongroom.analytics.federated.meeting import meet
from strongroom.analytics.federated.processes import SPAWN, end_with_parent, federated_xgboost
from strongroom.errors import ConfigurationError, FormatError, UnavailableError

LABEL: Final = "label"
Arrays = tuple[tuple[str, ...], Any, Any]
# What the training process tells: a round that ended (0: all parties met and agree), the model, or what went wrong.
_ROUND: Final = "round"
_MODEL: Final = "model"
_DIFFERS: Final = "differs"


@dataclass(frozen=True, slots=True)
class Trained:
    """A party's result.

    Args:
        model: The model in XGBoost's UBJSON.
        rows: Rows of this party.
        features: Names of the features.
    """

    model: bytes
    rows: int
    features: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the model: the same at every party."""
        return hashlib.sha256(self.model).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a party waits; XGBoost itself waits for a lost party without end.

    Args:
        total_s: For all of it, from meeting the coordinator to the model.
        round_s: For each round, once all parties have met.
    """

    total_s: float
    round_s: float

    def __post_init__(self) -> None:
        """Refuse what is no time.

        Raises:
            ConfigurationError: Not greater than nothing.
        """
        if not (self.total_s > 0 and self.round_s > 0):
            raise ConfigurationError("times to wait are numbers greater than 0", code="federate.range")


def train(
    federation: Federation,
    rank: int,
    identity: Identity,
    rows: Any,
    *,
    patience: Patience,
    heard: Callable[[int], None] = lambda _round: None,
) -> Trained:
    """Train with the others; returns when this party has the model.

    Args:
        federation: The same at every party.
        rank: This party's number, from 0.
        identity: Certificate of this party.
        rows: Arrow table of numbers, one column called "label".
        patience: How long to wait for the others.
        heard: Told the number of each round that ended; 0: all have met.

    Raises:
        ConfigurationError: The rank is out of range, XGBoost lacks the federated communicator, or the parties differ
            in features, rounds or parameters, or two have one rank.
        FormatError: No label, or a column that is no number.
        VerificationError: The coordinator, or this party, is not of the federation.
        UnavailableError: The coordinator or another party does not answer in time.
    """
    federated_xgboost()
    if not 0 <= rank < federation.parties:
        raise ConfigurationError(f"rank {rank} of {federation.parties} parties", code="federate.range")
    arrays = _arrays(rows)
    deadline = time.monotonic() + patience.total_s
    meet(federation.host, federation.port, identity, deadline=deadline)
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_train, args=(theirs, federation, rank, identity, arrays), daemon=True)
    process.start()
    theirs.close()
    try:
        model = _await_model(ours, deadline, patience, heard)
    except EOFError:
        raise UnavailableError("training ended without a model", code="federate.broken") from None
    finally:
        process.kill()
        process.join()
    return Trained(model, rows.num_rows, arrays[0])


def _await_model(told: Connection, deadline: float, patience: Patience, heard: Callable[[int], None]) -> bytes:
    until, done = deadline, -1
    while True:
        if not told.poll(max(min(until, deadline) - time.monotonic(), 0)):
            raise UnavailableError(
                "the parties did not come together in time: one is missing"
                if done < 0
                else f"round {done + 1} did not end in time: a party or the coordinator is lost",
                code="federate.timeout",
                hint="nothing was written; when all are back, start the coordinator and every party again",
            )
        what, value = told.recv()
        if what == _MODEL:
            return bytes(value)
        if what == _DIFFERS:
            raise ConfigurationError(
                "the parties differ in features, rounds, parameters or their number, or two have one rank",
                code="federate.differs",
            )
        if what != _ROUND:
            raise UnavailableError(f"the federation broke: {value}", code="federate.broken")
        done, until = value, time.monotonic() + patience.round_s
        heard(done)


def _train(tell: Connection, federation: Federation, rank: int, identity: Identity, arrays: Arrays) -> None:
    import xgboost

    end_with_parent()
    features, matrix, labels = arrays
    settings: dict[str, Any] = {
        "dmlc_communicator": "federated",
        "federated_server_address": f"{federation.host}:{federation.port}",
        "federated_world_size": federation.parties,
        "federated_rank": rank,
        "federated_server_cert_path": str(identity.authority),
        "federated_client_key_path": str(identity.private_key),
        "federated_client_cert_path": str(identity.certificate),
    }

    class Rounds(xgboost.callback.TrainingCallback):
        def after_iteration(self, _model: Any, epoch: int, _evals: Any) -> bool:
            tell.send((_ROUND, epoch + 1))
            return False

    try:
        with xgboost.collective.CommunicatorContext(**settings):
            if not _all_agree(xgboost.collective, federation, rank, features):
                tell.send((_DIFFERS, None))
                return
            tell.send((_ROUND, 0))
            data = xgboost.DMatrix(matrix, label=labels, feature_names=list(features))
            booster = xgboost.train(federation.training(), data, federation.rounds, callbacks=[Rounds()])
            tell.send((_MODEL, bytes(booster.save_raw("ubj"))))
    except xgboost.core.XGBoostError as error:
        tell.send(("broken", _reason(str(error))))


def _all_agree(collective: Any, federation: Federation, rank: int, features: tuple[str, ...]) -> bool:
    """Whether every rank is there once and all have the same agreement: its smallest parts are its largest."""
    present = np.zeros(federation.parties, np.int64)
    present[rank] = 1
    digest = np.frombuffer(federation.agreement(features), ">u4").astype(np.int64)
    counts = collective.allreduce(present, collective.Op.SUM)
    largest = collective.allreduce(digest, collective.Op.MAX)
    smallest = collective.allreduce(digest, collective.Op.MIN)
    return bool((counts == 1).all() and (largest == digest).all() and (smallest == digest).all())


def _arrays(rows: Any) -> Arrays:
    if LABEL not in rows.column_names or rows.num_columns < 2 or not rows.num_rows:
        raise FormatError(f"the query gives no rows, no column {LABEL!r}, or no feature", code="federate.rows")
    features = tuple(name for name in rows.column_names if name != LABEL)
    try:
        columns = [np.asarray(rows.column(name).to_numpy(zero_copy_only=False), np.float32) for name in features]
        labels = np.asarray(rows.column(LABEL).to_numpy(zero_copy_only=False), np.float32)
    except (TypeError, ValueError):
        raise FormatError(
            "features and label must be numbers", code="federate.rows", hint="cast them in the query"
        ) from None
    if np.isnan(labels).any():
        raise FormatError("a label is missing", code="federate.rows")
    return features, np.column_stack(columns), labels


def _reason(text: str) -> str:
    """The innermost of XGBoost's nested messages, without its source lines."""
    lines = [line.rsplit("]: ", 1)[-1].strip() for line in text.splitlines()]
    return ([line for line in lines if line and not line.startswith("[")] or ["no reason given"])[-1][:300]
