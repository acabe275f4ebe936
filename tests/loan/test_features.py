import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.features import Preprocessor, fit_preprocessor, yeo_johnson


@pytest.mark.parametrize("recipe", ["ordinal", "reference"])
def test_a_preprocessor_reads_back_equal(small_book: LoanBook, recipe: str) -> None:
    fitted = fit_preprocessor(small_book, recipe)  # type: ignore[arg-type]  # from the parameter
    again = Preprocessor.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    np.testing.assert_array_equal(again.transform(small_book), fitted.transform(small_book))


def test_the_reference_recipe_is_that_of_scikit_learn(small_book: LoanBook) -> None:
    from sklearn.preprocessing import PowerTransformer

    fitted = fit_preprocessor(small_book, "reference")
    matrix = fitted.transform(small_book)
    columns = ("person_age", "person_income", "loan_amnt", "loan_percent_income")
    raw = np.column_stack([small_book.numbers[name].astype(float) for name in columns])
    np.testing.assert_allclose(matrix[:, 3:7], PowerTransformer().fit_transform(raw), atol=2e-3)
    assert not np.isnan(matrix).any()
    assert matrix.shape == (len(small_book), 26)


def test_the_ordinal_recipe_keeps_missing_values_and_orders_grades(small_book: LoanBook) -> None:
    fitted = fit_preprocessor(small_book)
    matrix = fitted.transform(small_book)
    place = {name: i for i, name in enumerate(fitted.names)}
    rate = small_book.numbers["loan_int_rate"]
    np.testing.assert_array_equal(np.isnan(matrix[:, place["loan_int_rate"]]), np.isnan(rate))
    np.testing.assert_array_equal(matrix[:, place["loan_grade"]], small_book.codes["loan_grade"])
    ratio = small_book.numbers["loan_amnt"] / small_book.numbers["person_income"]
    np.testing.assert_array_equal(matrix[:, place["loan_to_income"]], ratio)
    hot = [i for name, i in place.items() if name.startswith("loan_intent=")]
    assert (matrix[:, hot].sum(axis=1) == 1).all()


def test_yeo_johnson_is_that_of_scipy() -> None:
    from scipy import stats

    values = np.array([-3.0, -0.5, 0.0, 0.2, 1.0, 50.0])
    for power in (-1.5, 0.0, 0.7, 1.0, 2.0, 3.1):
        np.testing.assert_allclose(yeo_johnson(values, power), stats.yeojohnson(values, power))


GOOD = {
    "recipe": "reference",
    "medians": {"loan_int_rate": 11.0, "person_emp_length": 4.0, "cb_person_cred_hist_length": 4},
    "powers": {name: [0.5, 0.0, 1.0] for name in ("person_age", "person_income", "loan_amnt", "loan_percent_income")},
}


def test_the_example_below_is_good() -> None:
    assert Preprocessor.from_json(GOOD).recipe == "reference"


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "other"},
        {"recipe": ["reference"]},
        {"medians": {}},
        {"medians": {**GOOD["medians"], "loan_int_rate": "11"}},  # type: ignore[dict-item]
        {"medians": {**GOOD["medians"], "loan_int_rate": True}},  # type: ignore[dict-item]
        {"medians": {**GOOD["medians"], "loan_int_rate": float("nan")}},  # type: ignore[dict-item]
        {"medians": {**GOOD["medians"], "loan_int_rate": 10**400}},  # type: ignore[dict-item]
        {"medians": {**GOOD["medians"], "more": 1.0}},  # type: ignore[dict-item]
        {"powers": {**GOOD["powers"], "person_age": [0.5, 0.0]}},  # type: ignore[dict-item]
        {"powers": {**GOOD["powers"], "person_age": [0.5, 0.0, 0.0]}},  # type: ignore[dict-item]
        {"powers": {**GOOD["powers"], "person_age": [0.5, float("inf"), 1.0]}},  # type: ignore[dict-item]
        {"powers": []},
        {"extra": 1},
    ],
)
def test_refuses_an_altered_preprocessor(change: dict[str, object]) -> None:
    with pytest.raises(FormatError) as refused:
        Preprocessor.from_json({**GOOD, **change})
    assert refused.value.code == "loan.preprocessor"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    json_values
    | st.fixed_dictionaries(
        {"recipe": st.sampled_from(["ordinal", "reference", 1]), "medians": json_values, "powers": json_values}
    )
)
def test_any_json_gives_a_preprocessor_or_the_documented_error(value: object) -> None:
    try:
        Preprocessor.from_json(value)
    except FormatError as error:
        assert error.code == "loan.preprocessor"
