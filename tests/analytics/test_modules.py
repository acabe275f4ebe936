"""What a module of an encrypted file is bound to: Apache Parquet, Encryption.md, section 4.4."""

import pytest

from strongroom.analytics.parquet.modules import DATA_PAGE, DATA_PAGE_HEADER, DICTIONARY_PAGE, FOOTER, associated_data
from strongroom.errors import FormatError


@pytest.mark.parametrize(
    ("module", "ordinals", "suffix"),
    [
        (FOOTER, (), b"\x00"),
        (DICTIONARY_PAGE, (1, 2), b"\x03\x01\x00\x02\x00"),
        (DATA_PAGE, (0, 0x7FFF, 0x0102), b"\x02\x00\x00\xff\x7f\x02\x01"),
        (DATA_PAGE_HEADER, (3, 4, 5), b"\x04\x03\x00\x04\x00\x05\x00"),
    ],
)
def test_module_and_ordinals_follow_the_file(module: int, ordinals: tuple[int, ...], suffix: bytes) -> None:
    assert associated_data(b"prefix+file", module, *ordinals) == b"prefix+file" + suffix


@pytest.mark.parametrize("ordinals", [(-1, 0), (0, 0x8000), (0, 0, 0x10000), (0x8000, 0, 0), (0, -1, 0)])
def test_refuses_ordinals_of_more_than_15_bits(ordinals: tuple[int, ...]) -> None:
    with pytest.raises(FormatError) as refusal:
        associated_data(b"file", DATA_PAGE, *ordinals)
    assert refusal.value.code == "parquet.ordinal"
