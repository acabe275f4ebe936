"""The job that an owner stores: what parses, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.spark.job import check_application, make_job, parse_job, serialize_job
from strongroom.errors import FormatError, StrongroomError, VerificationError

APPLICATION = b"print('hello')\n"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_parses_what_it_serialized(settings: dict[str, str]) -> None:
    job = make_job(APPLICATION, settings)
    assert parse_job(serialize_job(job)) == job


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_job_or_a_format_error(raw: bytes) -> None:
    try:
        parse_job(raw)
    except FormatError:
        pass


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"application":"00","format":"strongroom-spark-job/1","settings":{}}',
        b'{"application":"' + b"00" * 32 + b'","format":"strongroom-spark-job/2","settings":{}}',
        b'{"application":"' + b"00" * 32 + b'","format":"strongroom-spark-job/1","settings":{"a":1}}',
        b'{"application":"' + b"00" * 32 + b'","format":"strongroom-spark-job/1","settings":[]}',
        b'{"application":"' + b"00" * 32 + b'","format":"strongroom-spark-job/1","settings":{},"more":1}',
        b'{"application":"' + b"00" * 32 + b'","format":"strongroom-spark-job/1","settings":'
        b'{"spark.authenticate":"false"}}',
    ],
)
def test_refuses_a_malformed_job(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_job(raw)


def test_refuses_another_application() -> None:
    job = make_job(APPLICATION, {})
    check_application(job, APPLICATION)
    with pytest.raises(VerificationError) as refusal:
        check_application(job, APPLICATION + b"import os\n")
    assert refusal.value.code == "job.application"


def test_an_owner_cannot_switch_authentication_off() -> None:
    with pytest.raises(StrongroomError) as refusal:
        make_job(APPLICATION, {"spark.authenticate": "false"})
    assert refusal.value.code == "job.pinned"
