"""Key material of the standard key tools: which master key wraps a file's data key, and the wrapped key.

Source: Apache parquet-java, org.apache.parquet.crypto.keytools.KeyMaterial (type PKMT1); Apache Arrow,
cpp/src/parquet/encryption/key_material.h, writes the same. With double wrapping the data key is encrypted under a key
encryption key (AES-GCM, its id as associated data), and that one is wrapped under the master key.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

from strongroom.errors import FormatError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.kbs import ResourcePath

MATERIAL_TYPE: Final = "PKMT1"
MAX_MATERIAL_BYTES: Final = 16 * 1024
_CODE: Final = "parquet.key_material"


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """What stands in a file about one of its data keys.

    Args:
        master_key: Name of the master key.
        wrapped_data_key: The data key, wrapped under the key encryption key, or under the master key without one.
        kek_id: Id of the key encryption key; empty without one.
        wrapped_kek: The key encryption key, wrapped under the master key; empty without one. Opaque to us.
        is_footer_key: Whether it is the footer's key.
        service: Where the writer found its key service. Kept, never followed.
    """

    master_key: str
    wrapped_data_key: str
    kek_id: bytes
    wrapped_kek: str
    is_footer_key: bool
    service: tuple[tuple[str, str], ...]

    @property
    def double_wrapped(self) -> bool:
        """Whether there is a key encryption key."""
        return bool(self.kek_id)


def parse_material(raw: bytes) -> KeyMaterial:
    """Parse key metadata.

    Raises:
        FormatError: Not key material of type PKMT1 stored in the file itself, or a member is malformed.
    """
    members = parse_json_object(raw, max_bytes=MAX_MATERIAL_BYTES)
    if members.pop("keyMaterialType", None) != MATERIAL_TYPE:
        raise FormatError("key metadata is not key material of type PKMT1", code=_CODE)
    if members.pop("internalStorage", None) is not True:
        raise FormatError("the key material stands outside the file", code="parquet.external_material")
    footer, double = _flag(members, "isFooterKey"), _flag(members, "doubleWrapping")
    master = str(ResourcePath.parse(_text(members, "masterKeyID")))
    data_key = _text(members, "wrappedDEK")
    kek_id = decode(_text(members, "keyEncryptionKeyID")) if double else b""
    wrapped_kek = _text(members, "wrappedKEK") if double else ""
    if double and not kek_id:
        raise FormatError("key material: the id of the key encryption key is empty", code=_CODE)
    service = [(name, _text(members, name)) for name in ("kmsInstanceID", "kmsInstanceURL") if name in members]
    return KeyMaterial(master, data_key, kek_id, wrapped_kek, footer, tuple(service))


def serialize_material(material: KeyMaterial) -> bytes:
    """The key metadata of a piece of key material."""
    members: dict[str, Any] = {
        "keyMaterialType": MATERIAL_TYPE,
        "internalStorage": True,
        "isFooterKey": material.is_footer_key,
        **dict(material.service),
        "masterKeyID": material.master_key,
        "wrappedDEK": material.wrapped_data_key,
        "doubleWrapping": material.double_wrapped,
    }
    if material.double_wrapped:
        members |= {
            "keyEncryptionKeyID": base64.b64encode(material.kek_id).decode(),
            "wrappedKEK": material.wrapped_kek,
        }
    return json.dumps(members, separators=(",", ":")).encode()


def decode(text: str) -> bytes:
    """Decode base64 as the key tools write it.

    Raises:
        FormatError: Not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("key material: not base64", code=_CODE) from None


def _text(members: dict[str, object], name: str) -> str:
    value = members.pop(name, None)
    if not isinstance(value, str):
        raise FormatError(f"key material: {name} is missing", code=_CODE)
    return value


def _flag(members: dict[str, object], name: str) -> bool:
    value = members.pop(name, None)
    if not isinstance(value, bool):
        raise FormatError(f"key material: {name} is missing", code=_CODE)
    return value
