"""The model bundle: trees, preprocessor and metadata in one file, digest-checked, never a pickle.

Layout, integers little-endian:

    offset  size  what
    0       8     b"SRLOANM1"
    8       4     length H of the header
    12      8     length M of the model
    20      H     header, UTF-8 JSON: {"metadata": {...}, "preprocessor": {...}, "rounds": n}
    20+H    M     XGBoost model, UBJSON
    20+H+M  32    SHA-256 of everything before
"""

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, NoReturn

import xgboost as xgb

from strongroom.errors import FormatError
from strongroom.loan.features import Preprocessor

MAGIC: Final = b"SRLOANM1"
LENGTHS: Final = struct.Struct("<8sIQ")
MAX_HEADER_BYTES: Final = 4 << 20
MAX_MODEL_BYTES: Final = 1 << 30
DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that can score raw loan rows.

    Args:
        booster: XGBoost's booster over the preprocessor's features.
        preprocessor: From loan rows to features.
        metadata: JSON-serialisable facts: name, version, when, from what, how good.
        digest: SHA-256 of the bundle's bytes, hex; empty before it is written.
    """

    booster: xgb.Booster
    preprocessor: Preprocessor
    metadata: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


def serialize_bundle(bundle: Bundle) -> bytes:
    """The bundle's bytes.

    Raises:
        FormatError: It is larger than a loader would accept.
    """
    header = json.dumps(
        {
            "metadata": bundle.metadata,
            "preprocessor": bundle.preprocessor.to_json(),
            "rounds": bundle.booster.num_boosted_rounds(),
        },
        allow_nan=False,
        sort_keys=True,
    ).encode()
    model = bytes(bundle.booster.save_raw("ubj"))
    if len(header) > MAX_HEADER_BYTES or len(model) > MAX_MODEL_BYTES:
        raise FormatError("the model is too large for a bundle", code="loan.bundle")
    body = LENGTHS.pack(MAGIC, len(header), len(model)) + header + model
    return body + hashlib.sha256(body).digest()


def read_bundle(source: BinaryIO) -> Bundle:
    """Load a bundle.

    Args:
        source: Opened bundle file, at its beginning.

    Raises:
        FormatError: Anything but a whole, unaltered bundle of this version, code ``loan.bundle``.
    """
    start = source.read(LENGTHS.size)
    if len(start) != LENGTHS.size:
        _refuse("it is cut")
    magic, header_bytes, model_bytes = LENGTHS.unpack(start)
    if magic != MAGIC:
        _refuse("it does not begin as one")
    if header_bytes > MAX_HEADER_BYTES or model_bytes > MAX_MODEL_BYTES:
        _refuse("it is too large")
    rest = source.read(header_bytes + model_bytes + DIGEST_BYTES + 1)
    if len(rest) != header_bytes + model_bytes + DIGEST_BYTES:
        _refuse("its length is wrong")
    body, digest = rest[:-DIGEST_BYTES], rest[-DIGEST_BYTES:]
    if hashlib.sha256(start + body).digest() != digest:
        _refuse("its digest does not match")
    whole_digest = hashlib.sha256(start + rest).hexdigest()
    return _open(body[:header_bytes], body[header_bytes:], whole_digest)


def _open(header: bytes, model: bytes, digest: str) -> Bundle:
    try:
        data = json.loads(header)
    except (ValueError, RecursionError):
        _refuse("its header is not JSON")
    if not isinstance(data, dict) or set(data) != {"metadata", "preprocessor", "rounds"}:
        _refuse("its header is incomplete")
    if not isinstance(data["metadata"], dict):
        _refuse("its metadata is malformed")
    preprocessor = Preprocessor.from_json(data["preprocessor"])
    booster = xgb.Booster({"verbosity": 0})
    try:
        booster.load_model(bytearray(model))
    except xgb.core.XGBoostError:
        _refuse("its trees do not load")
    if booster.num_features() != len(preprocessor.names) or booster.num_boosted_rounds() != data["rounds"]:
        _refuse("its trees do not fit its preprocessor")
    return Bundle(booster, preprocessor, data["metadata"], digest)


def _refuse(what: str) -> NoReturn:
    raise FormatError(f"not a model bundle: {what}", code="loan.bundle")
