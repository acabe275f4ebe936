"""What every party of a federation must have alike: how many they are, the rounds, XGBoost's parameters."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.errors import ConfigurationError

MAX_PARTIES: Final = 256
MAX_ROUNDS: Final = 10_000
OBJECTIVES: Final = ("binary:logistic", "reg:squarederror", "count:poisson")
DEFAULTS: Final[Mapping[str, str | float]] = {
    "objective": "binary:logistic",
    "max_depth": 6,
    "eta": 0.2,
    "seed": 7,
}
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "alpha": (0, 1e6),
    "base_score": (-1e9, 1e9),
    "colsample_bytree": (0.01, 1),
    "eta": (1e-6, 1),
    "gamma": (0, 1e6),
    "lambda": (0, 1e6),
    "max_bin": (2, 4096),
    "max_depth": (1, 24),
    "min_child_weight": (0, 1e9),
    "scale_pos_weight": (0, 1e6),
    "seed": (0, 2**31 - 1),
    "subsample": (0.01, 1),
}
"""Numbers that may be set, and what they may be (XGBoost parameters, "Parameters for Tree Booster")."""
_WHOLE: Final = frozenset({"max_bin", "max_depth", "seed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Who trains together and how; the same for every party.

    Args:
        host: Where the coordinator is.
        port: Its port.
        parties: Number of parties.
        rounds: Boosting rounds.
        parameters: XGBoost's, over `DEFAULTS`: an objective of `OBJECTIVES`, numbers of `RANGES`.
    """

    host: str
    port: int
    parties: int
    rounds: int = 30
    parameters: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigurationError: There is something.
        """
        if not (0 < self.port < 2**16 and 1 < self.parties <= MAX_PARTIES and 0 < self.rounds <= MAX_ROUNDS):
            raise ConfigurationError("port, number of parties or rounds out of range", code="federate.range")
        for name, value in self.parameters.items():
            _check(name, value)

    def training(self) -> dict[str, str | float]:
        """XGBoost's parameters."""
        return {**DEFAULTS, **self.parameters, "tree_method": "hist"}

    def agreement(self, features: tuple[str, ...]) -> bytes:
        """SHA-256 over all that must be the same everywhere; XGBoost itself would train on what differs.

        Args:
            features: Names of a party's features, in order.
        """
        alike = [self.parties, self.rounds, sorted(self.training().items()), features]
        return hashlib.sha256(json.dumps(alike).encode()).digest()


def _check(name: str, value: str | float) -> None:
    if name == "objective" and value in OBJECTIVES:
        return
    low, high = RANGES.get(name, (1.0, 0.0))
    if low > high:
        raise ConfigurationError(
            f"no such parameter, or not this value: {name[:50]!r}",
            code="federate.parameter",
            hint="objective (" + ", ".join(OBJECTIVES) + "), " + ", ".join(RANGES),
        )
    if isinstance(value, str) or not math.isfinite(value) or not low <= value <= high:
        raise ConfigurationError(f"{name} is a number from {low:g} to {high:g}", code="federate.parameter")
    if name in _WHOLE and not float(value).is_integer():
        raise ConfigurationError(f"{name} is a whole number", code="federate.parameter")
