import json

import numpy as np
import pytest

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.fairness import RATES, Fairness, measure_fairness, privileged_rows, privileged_words


def measured(labels: list[int], called: list[int], privileged: list[int]) -> Fairness:
    return measure_fairness(
        np.array(labels, np.int8), np.array(called, bool), np.array(privileged, bool), column="group", name="a"
    )


def test_rates_and_ratios_of_known_counts() -> None:
    # privileged: TP 2, FP 1, FN 1, TN 4; others: TP 1, FP 1, FN 1, TN 1
    labels = [1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0]
    called = [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    fairness = measured(labels, called, [1] * 8 + [0] * 4)
    first, second = fairness.groups
    assert (first.rows, second.rows) == (8, 4)
    assert first.rates == pytest.approx(
        {
            "PPV": 2 / 3,
            "FDR": 1 / 3,
            "NPV": 4 / 5,
            "FOMR": 1 / 5,
            "TPR": 2 / 3,
            "FNR": 1 / 3,
            "TNR": 4 / 5,
            "FPR": 1 / 5,
        }
    )
    assert set(second.rates.values()) == {0.5}
    assert fairness.ratios["PPV"] == pytest.approx(4 / 3)
    assert fairness.ratios["FPR"] == pytest.approx(0.4)


def test_no_case_to_divide_by_is_said_and_not_guessed() -> None:
    fairness = measured([0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0])
    assert fairness.groups[0].rates["PPV"] is None
    assert fairness.groups[0].rates["TPR"] is None
    assert fairness.ratios["TPR"] is None
    assert fairness.ratios["FNR"] is None


def test_reads_back_equal() -> None:
    fairness = measured([0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0])
    assert Fairness.from_json(json.loads(json.dumps(fairness.to_json()))) == fairness
    assert list(fairness.ratios) == list(RATES)


def test_groups_by_category_number_and_kept_column(small_book: LoanBook) -> None:
    book = LoanBook(
        small_book.numbers,
        small_book.codes,
        small_book.target,
        {"bias_variable": np.array(["1", "0"] * 1_500, object)},
    )
    assert privileged_rows(book, "bias_variable", ["1"]).sum() == 1_500
    owners = privileged_rows(book, "person_home_ownership", ["OWN", "MORTGAGE"])
    assert np.array_equal(owners, np.isin(book.codes["person_home_ownership"], [0, 2]))
    assert np.array_equal(privileged_rows(book, "person_age", ["30"]), book.numbers["person_age"] >= 30)
    assert privileged_words(book, "person_age", ["30"]) == "30 or more"
    assert privileged_words(book, "person_home_ownership", ["OWN", "MORTGAGE"]) == "OWN, MORTGAGE"
    assert privileged_words(book, "bias_variable", ["1"]) == "1"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("person_home_ownership", []),
        ("person_home_ownership", ["CASTLE"]),
        ("person_home_ownership", ["OWN", "MORTGAGE", "RENT", "OTHER"]),
        ("person_age", ["old"]),
        ("person_age", ["20", "30"]),
        ("person_age", ["149"]),
        ("loan_status", ["1"]),
        ("nothing", ["1"]),
    ],
)
def test_refuses_columns_and_values_that_make_no_two_groups(
    small_book: LoanBook, column: str, values: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        privileged_rows(small_book, column, values)
    assert refused.value.code == "loan.fairness"


def test_refuses_rows_without_outcome() -> None:
    mask = np.array([True, False])
    with pytest.raises(FormatError):
        measure_fairness(None, mask, mask, column="c", name="n")
