"""From loan rows to a model's numbers: explicit parameters, kept in the model's bundle.

Two recipes. ``ordinal`` is ours: numbers as they are with missing values kept (trees split on them), the grade as an
ordered code, the nominal columns one column a value, and the loan's share of the income computed exactly.
``reference`` gives the 26 columns of Intel's module: medians, Yeo-Johnson with standardisation, one column a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt

from strongroom.errors import FormatError
from strongroom.loan.book import Floats, LoanBook
from strongroom.loan.schema import CATEGORIES, CATEGORY_BY_NAME, NUMBERS

Recipe = Literal["ordinal", "reference"]
Matrix = npt.NDArray[np.float32]

RATIO: Final = "loan_to_income"
IMPUTED: Final = ("loan_int_rate", "person_emp_length", "cb_person_cred_hist_length")
TRANSFORMED: Final = ("person_age", "person_income", "loan_amnt", "loan_percent_income")
FIT_ROWS: Final = 200_000
LARGEST: Final = 1e300


def _one_column_a_value(ordered_too: bool) -> tuple[tuple[str, int], ...]:
    return tuple(
        (column.name, code)
        for column in CATEGORIES
        if ordered_too or not column.ordered
        for code in range(len(column.values))
    )


ORDINAL_HOT: Final = _one_column_a_value(ordered_too=False)
REFERENCE_HOT: Final = tuple(
    (name, code)
    for name in ("person_home_ownership", "loan_intent", "loan_grade", "cb_person_default_on_file")
    for code in range(len(CATEGORY_BY_NAME[name].values))
)
ORDERED: Final = tuple(column.name for column in CATEGORIES if column.ordered)


@dataclass(frozen=True, slots=True)
class YeoJohnson:
    """A fitted Yeo-Johnson transformation with standardisation.

    Args:
        power: Lambda.
        mean: Mean after the transformation.
        scale: Standard deviation after it.
    """

    power: float
    mean: float
    scale: float

    def apply(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Transform and standardise. Source: Yeo and Johnson, Biometrika 87 (2000), section 2."""
        return (yeo_johnson(values, self.power) - self.mean) / self.scale


def yeo_johnson(values: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """The Yeo-Johnson transformation of non-negative and negative values."""
    positive, negative = np.log1p(np.maximum(values, 0)), np.log1p(np.maximum(-values, 0))
    above = np.expm1(power * positive) / power if abs(power) > 1e-12 else positive
    rest = 2 - power
    below = np.expm1(rest * negative) / rest if abs(rest) > 1e-12 else negative
    return np.where(values >= 0, above, -below)


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Turns rows into a float32 matrix, one column a feature.

    Args:
        recipe: Which columns are made.
        medians: Value for a missing one, by column (``reference`` only).
        powers: Fitted transformations, by column (``reference`` only).
    """

    recipe: Recipe
    medians: Mapping[str, float]
    powers: Mapping[str, YeoJohnson]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        if self.recipe == "reference":
            return (*IMPUTED, *TRANSFORMED, *(_hot_name(*hot) for hot in REFERENCE_HOT))
        return (*(c.name for c in NUMBERS), *ORDERED, RATIO, *(_hot_name(*hot) for hot in ORDINAL_HOT))

    def transform(self, book: LoanBook) -> Matrix:
        """The features of every row, shape (rows, features); NaN where a value is missing and kept so."""
        matrix = np.empty((len(book), len(self.names)), np.float32)
        for index, column in enumerate(self._columns(book)):
            matrix[:, index] = column
        return matrix

    def _columns(self, book: LoanBook) -> Any:
        if self.recipe == "reference":
            for name in IMPUTED:
                values = book.numbers[name]
                yield np.where(np.isnan(values), np.float32(self.medians[name]), values)
            for name in TRANSFORMED:
                yield self.powers[name].apply(book.numbers[name].astype(np.float64))
        else:
            yield from (book.numbers[column.name] for column in NUMBERS)
            yield from (book.codes[name] for name in ORDERED)
            yield book.numbers["loan_amnt"] / book.numbers["person_income"]
        for name, code in REFERENCE_HOT if self.recipe == "reference" else ORDINAL_HOT:
            yield book.codes[name] == code

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back to an equal preprocessor."""
        return {
            "recipe": self.recipe,
            "medians": dict(self.medians),
            "powers": {name: [p.power, p.mean, p.scale] for name, p in self.powers.items()},
        }

    @classmethod
    def from_json(cls, data: object) -> "Preprocessor":
        """Read what `to_json` wrote, strictly.

        Raises:
            FormatError: Anything else, code ``loan.preprocessor``.
        """
        if not isinstance(data, dict) or set(data) != {"recipe", "medians", "powers"}:
            _refuse()
        recipe, medians, powers = data["recipe"], data["medians"], data["powers"]
        if recipe not in ("ordinal", "reference") or not isinstance(medians, dict) or not isinstance(powers, dict):
            _refuse()
        expected = (set(IMPUTED), set(TRANSFORMED)) if recipe == "reference" else (set(), set())
        if (set(medians), set(powers)) != expected or not all(_finite([value]) for value in medians.values()):
            _refuse()
        for triple in powers.values():
            if not isinstance(triple, list) or len(triple) != 3 or not _finite(triple) or triple[2] <= 0:
                _refuse()
        return cls(
            cast(Recipe, recipe),
            {name: float(value) for name, value in medians.items()},
            {name: YeoJohnson(*map(float, triple)) for name, triple in powers.items()},
        )


def _finite(values: list[object]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= LARGEST for v in values)


def _refuse() -> NoReturn:
    raise FormatError("the preprocessor in the model bundle is malformed", code="loan.preprocessor")


def _hot_name(column: str, code: int) -> str:
    return f"{column}={CATEGORY_BY_NAME[column].values[code]}"


def fit_preprocessor(book: LoanBook, recipe: Recipe = "ordinal", *, seed: int = 0) -> Preprocessor:
    """Fit a preprocessor on training rows.

    Args:
        book: Training rows only. The ``reference`` recipe looks at no more than 200,000 of them, drawn by the seed.
        recipe: ``ordinal`` has nothing to fit.
        seed: Seed of the draw.
    """
    if recipe == "ordinal":
        return Preprocessor(recipe, {}, {})
    if len(book) > FIT_ROWS:
        book = book.take(np.random.default_rng(seed).integers(0, len(book), FIT_ROWS))
    medians = {name: _median(book.numbers[name]) for name in IMPUTED}
    return Preprocessor(recipe, medians, {name: _fit_power(book.numbers[name]) for name in TRANSFORMED})


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0


def _fit_power(values: Floats) -> YeoJohnson:
    """Lambda of greatest likelihood, then mean and deviation, as scikit-learn's PowerTransformer."""
    from scipy import stats

    exact = values.astype(np.float64)
    power = float(stats.yeojohnson_normmax(exact)) if exact.min() < exact.max() else 1.0
    moved = yeo_johnson(exact, power)
    return YeoJohnson(power, float(moved.mean()), float(moved.std()) or 1.0)
