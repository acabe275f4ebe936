"""The protocol as the reference client speaks it."""

from typing import Any


def test_attests_and_fetches_a_key_with_the_token(kbc: Any) -> None:
    answer = kbc.get(token=kbc.token())
    assert answer.status_code == 200, answer.text
    assert kbc.key.decrypt(answer.json()) == b"SIXTEEN-BYTE-KEY"
