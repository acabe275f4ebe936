import json

import numpy as np
import pytest

from strongroom.errors import FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.drift import Baseline, measure_baseline, measure_drift, psi
from strongroom.loan.schema import CATEGORIES, NUMBERS


def test_psi_of_known_shares() -> None:
    old, new = np.array([0.5, 0.5]), np.array([0.6, 0.4])
    assert psi(old, new) == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))
    assert psi(old, old) == 0
    assert psi(np.array([1.0, 0.0]), np.array([0.0, 1.0])) < 20, "empty bins don't make it infinite"


def test_the_same_rows_have_not_drifted(real_book: LoanBook) -> None:
    drift = measure_drift(measure_baseline(real_book), real_book)
    assert {d.column for d in drift} == {c.name for c in (*NUMBERS, *CATEGORIES)}
    assert all(d.psi == 0 and d.verdict == "stable" for d in drift)


def test_more_missing_values_are_drift(real_book: LoanBook) -> None:
    rate = real_book.numbers["loan_int_rate"].copy()
    rate[::2] = np.nan
    changed = LoanBook({**real_book.numbers, "loan_int_rate": rate}, real_book.codes)
    drift = {d.column: d for d in measure_drift(measure_baseline(real_book), changed)}
    assert drift["loan_int_rate"].verdict == "shifted"
    assert drift["person_income"].psi == 0


def test_another_mix_of_grades_is_drift(real_book: LoanBook) -> None:
    worse = np.minimum(real_book.codes["loan_grade"] + 1, 6).astype(np.int8)
    changed = LoanBook(real_book.numbers, {**real_book.codes, "loan_grade": worse})
    first = measure_drift(measure_baseline(real_book), changed)[0]
    assert (first.column, first.verdict) == ("loan_grade", "shifted")


def test_a_baseline_reads_back_equal(real_book: LoanBook) -> None:
    baseline = measure_baseline(real_book)
    assert Baseline.from_json(json.loads(json.dumps(baseline.to_json()))) == baseline


@pytest.mark.parametrize("data", [None, {}, [], {"edges": {}, "shares": {}}, {"edges": 1, "shares": 2}])
def test_refuses_what_is_no_baseline(data: object) -> None:
    with pytest.raises(FormatError) as refused:
        Baseline.from_json(data)
    assert refused.value.code == "loan.baseline"


def test_refuses_a_baseline_with_another_number_of_bins(real_book: LoanBook) -> None:
    data = measure_baseline(real_book).to_json()
    data["shares"]["person_age"].append(0.0)
    with pytest.raises(FormatError):
        Baseline.from_json(data)
