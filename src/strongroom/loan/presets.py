"""Named training settings, and what a caller may change about them."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from strongroom.errors import ConfigurationError
from strongroom.loan.features import RATIO, Recipe

PresetName = Literal["default", "reference"]

# From this many rows on, the default preset takes fewer, larger steps: more rows, less need for small ones.
MANY_ROWS: Final = 500_000

# A worse value of these never lowers the predicted risk when constraints are asked for.
MONOTONE: Final = {"loan_int_rate": 1, "loan_grade": 1, RATIO: 1, "loan_percent_income": 1}


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything a training run is made of, apart from the rows.

    Args:
        recipe: How features are made.
        rounds: Number of trees.
        parameters: XGBoost parameters, without threads, seed and objective.
    """

    recipe: Recipe
    rounds: int
    parameters: dict[str, Any]


# Chosen by repeated 5-fold cross-validation on the public data set (docs/benchmarks.md).
DEFAULT: Final = Preset(
    "ordinal",
    450,
    {"learning_rate": 0.06, "max_depth": 6, "subsample": 0.9, "colsample_bytree": 0.8, "max_bin": 4096},
)
DEFAULT_MANY_ROWS: Final = Preset(
    "ordinal",
    250,
    {"learning_rate": 0.1, "max_depth": 6, "subsample": 0.9, "colsample_bytree": 0.7, "max_bin": 512},
)
# Source: intel/intel-cloud-optimizations-azure, kubernetes, app/loan_app/model.py.
REFERENCE: Final = Preset("reference", 500, {"learning_rate": 0.02, "max_depth": 10, "min_child_weight": 6})


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What a caller may choose.

    Args:
        preset: ``default`` or ``reference``.
        rounds: Number of trees instead of the preset's, 1 to 10,000.
        early_stopping_rounds: Stop when this many trees did not help on a tenth of the training rows; None: never.
        positive_weight: Weight of a default against a non-default; "balanced": their ratio; None: 1. Any other value
            than 1 shifts the probabilities, so they are no longer calibrated.
        monotone: Constrain rate, grade and both shares of income to never lower the risk. Costs some AUC.
        seed: Of every draw.
        threads: XGBoost's threads; None: as many as this process may use, one for few rows.
    """

    preset: PresetName = "default"
    rounds: int | None = None
    early_stopping_rounds: int | None = None
    positive_weight: float | Literal["balanced"] | None = None
    monotone: bool = False
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.preset not in {"default", "reference"}:
            raise ConfigurationError("the preset is default or reference", code="loan.preset")
        if self.rounds is not None and not 1 <= self.rounds <= 10_000:
            raise ConfigurationError("the number of trees must lie between 1 and 10,000", code="loan.rounds")
        if self.early_stopping_rounds is not None and self.early_stopping_rounds < 1:
            raise ConfigurationError("early stopping needs at least one round", code="loan.rounds")
        weight = self.positive_weight
        if weight is not None and weight != "balanced" and not 0 < weight < 1e6:
            raise ConfigurationError("the weight of a default must be positive", code="loan.weight")

    def choose(self, rows: int) -> Preset:
        """The preset for a number of training rows."""
        if self.preset == "reference":
            return REFERENCE
        return DEFAULT if rows < MANY_ROWS else DEFAULT_MANY_ROWS
