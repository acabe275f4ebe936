"""Other readers and writers of Parquet Modular Encryption: pyarrow and Polars."""

import base64
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.manifest import MANIFEST_NAME, Column, Manifest, Part, seal_manifest
from strongroom.analytics.parquet.columns import open_footer
from strongroom.analytics.parquet.decrypted import DecryptedFile
from strongroom.analytics.parquet.footer import MAGIC, read_tail
from strongroom.analytics.parquet.material import KeyMaterial, serialize_material
from strongroom.analytics.parquet.reader import PlainReader
from strongroom.analytics.parquet.thrift import BINARY, Field, read_struct, write_struct
from strongroom.analytics.table import open_table, readers
from strongroom.analytics.writing import _PyarrowKms
from strongroom.errors import FormatError

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"


def plain_reader(path: Path, keys: Any) -> PlainReader:
    raw = path.read_bytes()

    def read_into(offset: int, buffer: memoryview) -> int:
        piece = raw[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    tail = read_tail(lambda offset, size: raw[offset : offset + size], len(raw))
    footer = open_footer(tail, keys)
    view = DecryptedFile(read_into, tail.file_aad, footer.chunks, footer.plain, tail.start)
    return PlainReader(view, lambda: None, name=path.name)


def pyarrow_write(path: Path, rows: Any, kms: LocalKms, encryption: dict[str, Any], **options: Any) -> None:
    factory = pe.CryptoFactory(lambda _config: _PyarrowKms(DataKeys(kms)))
    configuration = pe.EncryptionConfiguration(footer_key=TRIPS, cache_lifetime=timedelta(minutes=5), **encryption)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    pq.write_table(rows, path, encryption_properties=properties, **options)


def pyarrow_read(path: Path, kms: LocalKms) -> Any:
    factory = pe.CryptoFactory(lambda _config: _PyarrowKms(DataKeys(kms)))
    properties = factory.file_decryption_properties(pe.KmsConnectionConfig(), pe.DecryptionConfiguration())
    return pq.ParquetFile(path, decryption_properties=properties).read()


@pytest.mark.parametrize("column_keys", [{}, {"fare": FARES}])
def test_pyarrow_reads_what_we_write(
    tmp_path: Path, rows: Any, write_table: Any, kms: LocalKms, column_keys: dict[str, str]
) -> None:
    manifest = write_table(tmp_path / "t", rows, column_keys=column_keys)
    assert pyarrow_read(tmp_path / "t" / manifest.parts[0].name, kms).equals(rows)


def test_polars_reads_what_we_write(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    flat = rows.drop_columns(["stops", "zone"])
    write_table(tmp_path / "t", flat, column_keys={"fare": FARES})
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    keys = reading().data_keys
    properties = pl.ParquetDecryptionProperties(
        footer_key=keys(part.tail.key_metadata),
        column_keys={name: keys(metadata) for name, metadata in part.footer.column_keys.items()},
    )
    assert pl.scan_parquet(part.path, decryption=properties).collect().to_arrow().cast(flat.schema).equals(flat)


ENCRYPTIONS: dict[str, dict[str, Any]] = {
    "uniform": {"uniform_encryption": True},
    "uniform, one wrapping": {"uniform_encryption": True, "double_wrapping": False},
    "uniform, 256 bits": {"uniform_encryption": True, "data_key_length_bits": 256},
    "columns": {"column_keys": {FARES: ["fare", "vendor"], TRIPS: ["id", "pickup", "stops", "zone"]}},
    "columns, one wrapping": {
        "column_keys": {FARES: ["fare"], TRIPS: ["id", "vendor", "pickup", "stops", "zone"]},
        "double_wrapping": False,
    },
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "small row groups": {"row_group_size": 333},
    "small pages": {"data_page_size": 512, "max_rows_per_page": 100},
    "data pages 2": {"data_page_version": "2.0", "max_rows_per_page": 1000},
    "no dictionary": {"use_dictionary": False},
    "no compression": {"compression": "none"},
    "checksums": {"write_page_checksum": True, "max_rows_per_page": 700},
    "page index": {"write_page_index": True},
}


def test_we_read_what_polars_writes(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    """Polars takes a data key and writes no key metadata; whoever uses it puts that in front of the footer."""
    flat, path = rows.drop_columns(["stops", "zone"]), tmp_path / "t.parquet"
    pl.DataFrame(flat).write_parquet(path, encryption=pl.ParquetEncryptionProperties(footer_key=b"d" * 16))
    wrapped = base64.b64encode(kms.wrap(TRIPS, b"d" * 16)).decode()
    material = KeyMaterial(TRIPS, wrapped, b"", "", is_footer_key=True, service=())
    path.write_bytes(with_key_metadata(path.read_bytes(), serialize_material(material)))
    assert pq.read_table(plain_reader(path, DataKeys(kms))).cast(flat.schema).equals(flat)


def with_key_metadata(raw: bytes, metadata: bytes) -> bytes:
    start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    crypto, footer_at = read_struct(raw[start:])
    body = write_struct({**crypto, 2: Field(BINARY, metadata)}) + raw[start + footer_at : -8]
    return raw[:start] + body + len(body).to_bytes(4, "little") + MAGIC


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("layout", ["defaults", "small pages"])
def test_we_read_what_pyarrow_writes(tmp_path: Path, rows: Any, kms: LocalKms, encryption: str, layout: str) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, ENCRYPTIONS[encryption], **LAYOUTS[layout])
    assert pq.read_table(plain_reader(tmp_path / "x", DataKeys(kms))).equals(rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_we_read_every_layout(tmp_path: Path, rows: Any, kms: LocalKms, layout: str) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, ENCRYPTIONS["columns"], **LAYOUTS[layout])
    reader = plain_reader(tmp_path / "x", DataKeys(kms))
    assert pq.read_table(reader).equals(rows)
    reader.seek(0)
    assert pl.read_parquet(reader.readall(), columns=["id"]).height == rows.num_rows


def test_a_table_of_pyarrows_files_under_our_manifest(
    tmp_path: Path, rows: Any, kms: LocalKms, signer: Any, reading: Any
) -> None:
    pyarrow_write(tmp_path / "part-1.parquet", rows, kms, ENCRYPTIONS["uniform"])
    raw = (tmp_path / "part-1.parquet").read_bytes()
    tail = read_tail(lambda offset, size: raw[offset : offset + size], len(raw))
    part = Part("part-1.parquet", len(raw), rows.num_rows, tail.digest, hashlib.sha256(tail.key_metadata).digest())
    columns = tuple(Column(item.name, str(item.type), TRIPS) for item in rows.schema)
    manifest = Manifest(table="trips", version=1, previous=b"", key=TRIPS, columns=columns, parts=(part,))
    (tmp_path / MANIFEST_NAME).write_bytes(seal_manifest(manifest, kms, signer))
    for reader in readers(open_table(tmp_path, "trips", reading())):
        assert pq.read_table(reader).equals(rows)


def test_reads_any_range_of_the_plaintext_view_alike(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, ENCRYPTIONS["columns"], row_group_size=1000)
    reader = plain_reader(tmp_path / "x", DataKeys(kms))
    reader.seek(0)
    whole = reader.readall()
    assert len(whole) == reader.size and whole[:4] == whole[-4:] == b"PAR1"
    for start in range(0, reader.size, 4999):
        for size in (1, 17, 5000, 200_000):
            reader.seek(start)
            assert reader.read(size) == whole[start : start + size]


def test_refuses_aes_gcm_ctr(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    """CTR does not authenticate pages: flipped bits would become wrong numbers."""
    pyarrow_write(tmp_path / "x", rows, kms, {"uniform_encryption": True, "encryption_algorithm": "AES_GCM_CTR_V1"})
    with pytest.raises(FormatError) as refusal:
        plain_reader(tmp_path / "x", DataKeys(kms))
    assert refusal.value.code == "parquet.algorithm"


def test_refuses_a_plaintext_footer(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, ENCRYPTIONS["columns"] | {"plaintext_footer": True})
    with pytest.raises(FormatError) as refusal:
        plain_reader(tmp_path / "x", DataKeys(kms))
    assert refusal.value.code == "parquet.plaintext"


def test_refuses_a_column_that_is_not_encrypted(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, {"column_keys": {FARES: ["fare"]}})
    with pytest.raises(FormatError) as refusal:
        plain_reader(tmp_path / "x", DataKeys(kms))
    assert refusal.value.code == "parquet.plaintext_column"


def test_refuses_external_key_material(tmp_path: Path, rows: Any, kms: LocalKms) -> None:
    pyarrow_write(tmp_path / "x", rows, kms, {"uniform_encryption": True})
    raw = (tmp_path / "x").read_bytes().replace(b'"internalStorage":true', b'"internalStorage":null')
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(FormatError, match="outside"):
        plain_reader(tmp_path / "x", DataKeys(kms))
