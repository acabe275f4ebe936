import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.loan.prediction import Predictions
from strongroom.loan.service.answers import RowKeys, predicted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.floats(0, 1))
def test_the_quick_answer_is_the_references_dictionary(values: list[float], threshold: float) -> None:
    predictions = Predictions(np.array(values, np.float32), threshold)
    answer = json.loads(predicted(predictions, RowKeys()))
    expected = predictions.to_json()
    assert answer["Prediction Output"]["Prediction"] == expected["Prediction"]
    assert list(answer["Prediction Output"]["Probability"]) == list(expected["Probability"])
    back = np.array(list(answer["Prediction Output"]["Probability"].values()), np.float32)
    assert np.array_equal(back, predictions.probabilities)


@pytest.mark.parametrize("sizes", [(5, 3, 8), (1, 1), (100, 2)])
def test_keys_are_shared_between_calls_of_any_size(sizes: tuple[int, ...]) -> None:
    keys = RowKeys()
    for size in sizes:
        answer = json.loads(predicted(Predictions(np.zeros(size, np.float32)), keys))
        assert list(answer["Prediction Output"]["Probability"]) == [str(row) for row in range(size)]


def test_an_engines_column_of_a_matrix_is_answered_too() -> None:
    column = np.arange(6, dtype=np.float32).reshape(3, 2)[:, 1] / np.float32(8)
    answer = json.loads(predicted(Predictions(column), RowKeys()))
    assert answer["Prediction Output"]["Probability"] == {"0": 0.125, "1": 0.375, "2": 0.625}
