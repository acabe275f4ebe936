"""A generated loan book of the real one's schema: plausible margins, a signal that can be learned, missing values.

No row is anybody's: every value is drawn. Use it where no real file is at hand.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.loan.book import LoanBook
from strongroom.loan.schema import CATEGORY_BY_NAME

CHUNK_ROWS: Final = 250_000
DEFAULT_RATE: Final = 0.22
HOME_SHARES: Final = (0.41, 0.003, 0.08, 0.507)
INTENT_SHARES: Final = (0.16, 0.198, 0.111, 0.186, 0.17, 0.175)
INTENT_RISK: Final = (0.5, -0.25, 0.35, 0.45, -0.05, -0.6)
GRADE_BOUNDS: Final = (-0.44, 0.42, 1.04, 1.72, 2.35, 2.9)
GRADE_RATE: Final = (7.3, 11.0, 13.5, 15.4, 17.0, 18.6, 20.3)
MISSING_RATE: Final = 0.095
MISSING_EMPLOYMENT: Final = 0.027
INTERCEPT: Final = -2.1  # gives the default rate above

Values = npt.NDArray[np.float64]


def sample_book(rows: int, seed: int = 0) -> Iterator[LoanBook]:
    """Generate a loan book in chunks.

    Args:
        rows: Number of rows, at least 1.
        seed: The same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, rows, CHUNK_ROWS):
        yield _chunk(min(CHUNK_ROWS, rows - start), rng)


def _chunk(rows: int, rng: np.random.Generator) -> LoanBook:
    income: Values = np.clip(np.round(np.exp(rng.normal(10.92, 0.55, rows)), -2), 4_000, 2_000_000)
    age = np.minimum(20 + np.floor(rng.gamma(1.6, 4.8, rows)), 84)
    home = _homes(income, rng)
    intent = rng.choice(len(INTENT_SHARES), rows, p=INTENT_SHARES)
    quality = rng.normal(0, 1, rows)
    grade = np.searchsorted(np.array(GRADE_BOUNDS), quality)
    rate = np.round(np.clip(np.array(GRADE_RATE)[grade] + rng.normal(0, 1.0, rows), 5.42, 23.22), 2)
    amount = np.exp(8.95 + 0.3 * np.log(income / 55_000) + rng.normal(0, 0.66, rows))
    amount = np.clip(np.round(np.minimum(amount, 0.75 * income) / 25) * 25, 500, 35_000)
    share: Values = np.round(amount / income, 2)
    employment = np.floor(np.minimum(rng.gamma(1.25, 3.8, rows), age - 15))
    history = np.clip(np.floor((age - 20) * rng.uniform(0.2, 1.1, rows)), 2, 30)
    on_file = rng.random(rows) < np.where(grade >= 2, 0.45, 0.0)
    numbers = {
        "person_age": age,
        "person_income": income,
        "person_emp_length": np.where(rng.random(rows) < MISSING_EMPLOYMENT, np.nan, employment),
        "loan_amnt": amount,
        "loan_int_rate": np.where(rng.random(rows) < MISSING_RATE, np.nan, rate),
        "loan_percent_income": share,
        "cb_person_cred_hist_length": history,
    }
    codes = {
        "person_home_ownership": home,
        "loan_intent": intent,
        "loan_grade": grade,
        "cb_person_default_on_file": on_file,
    }
    odds = INTERCEPT + _risk(income, share, home, intent, grade, employment)
    defaulted = rng.random(rows) < 1 / (1 + np.exp(-odds))
    return LoanBook(
        {name: values.astype(np.float32) for name, values in numbers.items()},
        {name: values.astype(np.int8) for name, values in codes.items()},
        defaulted.astype(np.int8),
    )


def _homes(income: Values, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Richer people own: the uniform draw moves with income."""
    draw = np.clip(rng.random(len(income)) - 0.18 * np.log(income / 55_000), 0, 1 - 1e-9)
    return np.searchsorted(np.cumsum(HOME_SHARES)[:-1], draw)


def _risk(
    income: Values,
    share: Values,
    home: npt.NDArray[np.int64],
    intent: npt.NDArray[np.int64],
    grade: npt.NDArray[np.int64],
    employment: Values,
) -> Values:
    """Log odds of a default without the intercept: thresholds and interactions, as lenders see them."""
    renting = home == CATEGORY_BY_NAME["person_home_ownership"].values.index("RENT")
    owning = home == CATEGORY_BY_NAME["person_home_ownership"].values.index("OWN")
    poor_grade = grade >= CATEGORY_BY_NAME["loan_grade"].values.index("D")
    return np.asarray(
        2.9 * poor_grade
        + 0.35 * grade
        + 3.4 * (share > 0.3) * renting
        + 4.0 * (share - 0.17)
        - 2.4 * owning * ~poor_grade
        - 1.1 * np.log(income / 55_000)
        + 0.9 * np.array(INTENT_RISK)[intent]
        - 0.04 * np.minimum(employment, 15)
        - 0.9
    )
