"""CCZoo's ra_config.json: its meaning is taken, its server's faults are not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.ra_config import Entry, RaConfig, parse_ra_config

ENCLAVE = "ab" * 32
SIGNER = "cd" * 32
ALL = ("mr_enclave", "mr_signer", "isv_prod_id", "isv_svn")


def document(*, entries: list[Any] | None = None, array: str = "mrs", **changes: Any) -> dict[str, Any]:
    entry = {"mr_enclave": ENCLAVE, "mr_signer": SIGNER, "isv_prod_id": "7", "isv_svn": "3"}
    switches: dict[str, Any] = {f"verify_{name}": "on" for name in ALL}
    return switches | {array: [entry] if entries is None else entries} | changes


def all_switches(value: object) -> dict[str, Any]:
    return {f"verify_{name}": value for name in ALL}


def parse(value: object) -> RaConfig:
    return parse_ra_config(json.dumps(value).encode())


def codes(config: RaConfig) -> set[str]:
    return {finding.code for finding in config.findings}


def entry(**changes: Any) -> dict[str, Any]:
    return {"mr_enclave": ENCLAVE, "mr_signer": SIGNER, "isv_prod_id": "7", "isv_svn": "3"} | changes


def test_reads_what_the_file_means() -> None:
    config = parse(document())
    assert config.entries == (Entry(b"\xab" * 32, b"\xcd" * 32, 7, 3),)


def test_reads_the_name_grpc_ra_tls_gives_the_list() -> None:
    assert parse(document(array="sgx_mrs")) == parse(document())


def test_upper_case_hexadecimal_means_the_same() -> None:
    assert parse(document(entries=[entry(mr_enclave=ENCLAVE.upper())])).entries == parse(document()).entries


def test_a_number_in_a_string_is_that_number_and_it_says_that_zero_was_accepted() -> None:
    config = parse(document(entries=[entry(isv_prod_id="7", isv_svn=3)]))
    assert config.entries[0].isv_prod_id == 7
    details = [f.detail for f in config.findings if f.code == "ra_config.number_in_string"]
    assert len(details) == 1
    assert details[0].startswith("isv_prod_id")


def test_plain_numbers_and_the_string_zero_were_read_alike_by_both() -> None:
    assert "ra_config.number_in_string" not in codes(parse(document(entries=[entry(isv_prod_id=7, isv_svn="0")])))


def test_true_means_on_and_it_says_that_the_check_was_never_made() -> None:
    config = parse(document(verify_mr_enclave=True))
    assert config.entries[0].mr_enclave == b"\xab" * 32
    assert "ra_config.boolean_switch" in codes(config)


def test_all_switches_off_is_said_loudly() -> None:
    config = parse(document(**all_switches("off")))
    assert config.entries == (Entry(),)
    assert config.entries[0].accepts_any_code
    assert "ra_config.any_enclave" in codes(config)


def test_all_switches_off_with_an_empty_list_still_means_any_enclave() -> None:
    config = parse(document(entries=[], **all_switches(False)))
    assert config.entries == (Entry(),)
    assert "ra_config.any_enclave" in codes(config)


def test_code_and_signer_unchecked_is_said() -> None:
    config = parse(document(verify_mr_enclave="off", verify_mr_signer="off"))
    assert config.entries[0].accepts_any_code
    assert "ra_config.any_code" in codes(config)


def test_empty_list_accepts_nobody() -> None:
    config = parse(document(entries=[]))
    assert config.entries == ()
    assert "ra_config.nobody" in codes(config)


def test_svn_is_exact_unless_the_file_says_minimum() -> None:
    exact = parse(document())
    assert (exact.entries[0].isv_svn, exact.entries[0].minimum_isv_svn) == (3, None)
    assert "ra_config.exact_svn" in codes(exact)
    item = entry(minimum_isv_svn=3)
    del item["isv_svn"]
    minimum = parse(document(entries=[item]))
    assert (minimum.entries[0].isv_svn, minimum.entries[0].minimum_isv_svn) == (None, 3)
    assert "ra_config.exact_svn" not in codes(minimum)


def test_switched_off_svn_drops_the_minimum_too() -> None:
    item = entry(minimum_isv_svn=3)
    del item["isv_svn"]
    assert parse(document(entries=[item], verify_isv_svn="off")).entries[0].minimum_isv_svn is None


def test_debug_enclaves_of_the_old_server_are_always_mentioned() -> None:
    assert "ra_config.debug_allowed" in codes(parse(document()))


@pytest.mark.parametrize("value", ["ON", "On", "o", "", "once", "yes", 1, 0, None, ["on"], "off "])
def test_refuses_a_switch_that_is_neither_on_nor_off(value: object) -> None:
    with pytest.raises(FormatError) as refusal:
        parse(document(verify_mr_signer=value))
    assert refusal.value.code == "ra_config.malformed"


@pytest.mark.parametrize("name", [f"verify_{name}" for name in ALL])
def test_refuses_a_missing_switch(name: str) -> None:
    value = document()
    del value[name]
    with pytest.raises(FormatError, match="names must be"):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        document(extra=1),
        document() | {"sgx_mrs": []},
        document(entries={}),  # type: ignore[arg-type]
        document(entries=[entry()] * 101),
        document(entries=["x"]),
        document(entries=[entry(extra=1)]),
        document(entries=[entry(minimum_isv_svn=1)]),
        document(entries=[entry(mr_enclave=ENCLAVE[:-1])]),
        document(entries=[entry(mr_enclave=ENCLAVE + "00")]),
        document(entries=[entry(mr_enclave="zz" * 32)]),
        document(entries=[entry(mr_signer=None)]),
        document(entries=[entry(isv_svn="65536")]),
        document(entries=[entry(isv_svn=-1)]),
        document(entries=[entry(isv_svn="-1")]),
        document(entries=[entry(isv_svn="03")]),
        document(entries=[entry(isv_svn=" 3")]),
        document(entries=[entry(isv_svn="٣")]),
        document(entries=[entry(isv_svn=3.0)]),
        document(entries=[entry(isv_svn=True)]),
        document(entries=[entry(mr_enclave="")], verify_mr_enclave="off"),  # a switch does not excuse a broken value
    ],
)
def test_refuses_what_has_no_clear_meaning(value: object) -> None:
    with pytest.raises(FormatError) as refusal:
        parse(value)
    assert refusal.value.code == "ra_config.malformed"


def test_refuses_a_switch_named_twice() -> None:
    text = json.dumps(document())[:-1] + ', "verify_mr_enclave": "off"}'
    with pytest.raises(FormatError):
        parse_ra_config(text.encode())


def test_refuses_an_overlong_file() -> None:
    with pytest.raises(FormatError):
        parse_ra_config(json.dumps(document()).encode() + b" " * 256 * 1024)


@given(
    st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.booleans()), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_every_field_is_checked_exactly_when_switched_on(
    items: list[tuple[int, int, bool]], switches: list[bool]
) -> None:
    entries = [entry(isv_prod_id=str(a) if text else a, isv_svn=b) for a, b, text in items]
    states = {f"verify_{name}": "on" if on else "off" for name, on in zip(ALL, switches, strict=True)}
    config = parse(document(entries=entries, **states))
    if any(switches):
        expected = []
        for a, b, _ in items:
            values: tuple[Any, ...] = (b"\xab" * 32, b"\xcd" * 32, a, b)
            expected.append(Entry(*(v if on else None for v, on in zip(values, switches, strict=True))))
        assert list(config.entries) == expected
    else:
        assert config.entries == (Entry(),)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_give_a_meaning_or_a_format_error(raw: bytes) -> None:
    try:
        parse_ra_config(raw)
    except FormatError:
        pass
