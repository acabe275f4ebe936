"""The ``ra_config.json`` of the Confidential Computing Zoo's key server, read for what it means.

The file lists enclaves; a client is meant to be accepted when some entry matches in every field that is switched on.
The server it was written for does not do that, so a file can have protected less than its author believed. This reader
takes the meaning, refuses what has none, and reports as findings where that server would have let others in.

Source: intel/confidential-computing-zoo, cczoo/tensorflow-serving-cluster, the patched ``secret_prov_server_dcap``
and its ``ra_config.json`` (``dynamic_config.json`` in grpc-ra-tls, whose list is called ``sgx_mrs``).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.errors import Finding, FormatError
from strongroom.formats.canonical import parse_json_object

MAX_BYTES: Final = 256 * 1024
MAX_ENTRIES: Final = 100  # as many as the server it was written for reads
U16_MAX: Final = 0xFFFF

MEASUREMENTS: Final = ("mr_enclave", "mr_signer")
NUMBERS: Final = ("isv_prod_id", "isv_svn")
FIELDS: Final = (*MEASUREMENTS, *NUMBERS)
MINIMUM_ISV_SVN: Final = "minimum_isv_svn"
_LISTS: Final = ("mrs", "sgx_mrs")
_SWITCH: Final = "verify_"
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_CODE: Final = "ra_config.malformed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One enclave that may have the key. A field whose switch is off is None, whatever the file says.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: Exactly this product id.
        isv_svn: Exactly this security version: what the file has always meant.
        minimum_isv_svn: At least this security version: only when the file says so by that name.
    """

    mr_enclave: bytes | None = None
    mr_signer: bytes | None = None
    isv_prod_id: int | None = None
    isv_svn: int | None = None
    minimum_isv_svn: int | None = None

    @property
    def accepts_any_code(self) -> bool:
        """Whether neither the code nor its signer is named."""
        return self.mr_enclave is None and self.mr_signer is None


@dataclass(frozen=True, slots=True)
class RaConfig:
    """What the file means.

    Args:
        entries: A client is accepted if some entry matches in every field that is not None. None at all accepts none.
        findings: Where the server the file was written for would have accepted others, or nobody.
    """

    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]


def parse_ra_config(raw: bytes) -> RaConfig:
    """Reads the file.

    Args:
        raw: JSON, at most 256 KiB: the four ``verify_...`` switches ("on", "off", true or false) and one list of
            entries with all four fields each; ``minimum_isv_svn`` may stand in place of ``isv_svn``.

    Returns:
        The meaning, and findings.

    Raises:
        FormatError: Anything else: a missing or unknown name, another switch value, a measurement that is not 64
            hexadecimal digits, a number that is not 0 to 65535 (``ra_config.malformed``).
    """
    members = parse_json_object(raw, max_bytes=MAX_BYTES)
    lists = [name for name in _LISTS if name in members]
    if len(lists) != 1 or members.keys() != {_SWITCH + field for field in FIELDS} | set(lists):
        raise FormatError(
            f'names must be verify_{", verify_".join(FIELDS)} and one of "mrs" and "sgx_mrs"',
            code=_CODE,
            hint="a missing switch is not read as off: write it out",
        )
    switches = {field: _switch(members[_SWITCH + field], field) for field in FIELDS}
    items = members[lists[0]]
    if not isinstance(items, list) or len(items) > MAX_ENTRIES:
        raise FormatError(f'"{lists[0]}" is not a list of at most {MAX_ENTRIES} entries', code=_CODE)
    entries = _entries(items, switches)
    return RaConfig(entries, tuple(_findings(members, switches, items)))


def _switch(value: object, field: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in {"on", "off"}:
        return value == "on"
    raise FormatError(f'{_SWITCH}{field} must be "on" or "off"', code=_CODE)


def _entries(items: list[object], switches: dict[str, bool]) -> tuple[Entry, ...]:
    entries = tuple(_entry(item, number, switches) for number, item in enumerate(items, start=1))
    if any(switches.values()):
        return entries
    return (Entry(),)  # nothing is checked, so the list does not matter, not even when it is empty


def _entry(item: object, number: int, switches: dict[str, bool]) -> Entry:
    allowed = (set(FIELDS), set(FIELDS) - {"isv_svn"} | {MINIMUM_ISV_SVN})
    if not isinstance(item, dict) or item.keys() not in allowed:
        raise FormatError(f"entry {number}: fields must be {', '.join(FIELDS)}", code=_CODE)
    measurements = {name: _measurement(item[name], name, number) for name in MEASUREMENTS}
    numbers = {name: _number(item[name], name, number) for name in (*NUMBERS, MINIMUM_ISV_SVN) if name in item}
    return Entry(
        mr_enclave=measurements["mr_enclave"] if switches["mr_enclave"] else None,
        mr_signer=measurements["mr_signer"] if switches["mr_signer"] else None,
        isv_prod_id=numbers["isv_prod_id"] if switches["isv_prod_id"] else None,
        isv_svn=numbers.get("isv_svn") if switches["isv_svn"] else None,
        minimum_isv_svn=numbers.get(MINIMUM_ISV_SVN) if switches["isv_svn"] else None,
    )


def _measurement(value: object, name: str, number: int) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise FormatError(f"entry {number}: {name} is not 64 hexadecimal digits", code=_CODE)
    return bytes.fromhex(value)


def _number(value: object, name: str, number: int) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= U16_MAX:
        raise FormatError(f"entry {number}: {name} is not a number from 0 to {U16_MAX}", code=_CODE)
    return value


def _findings(members: dict[str, object], switches: dict[str, bool], items: list[object]) -> Iterator[Finding]:
    yield Finding(
        "ra_config.debug_allowed",
        "the server this file is from is started with debug enclaves, outdated platforms and open hardware or "
        "software hardening all allowed; none of that is taken over",
    )
    if not any(switches.values()):
        yield Finding("ra_config.any_enclave", "all four switches are off: every enclave of anybody is accepted")
    elif not (switches["mr_enclave"] or switches["mr_signer"]):
        yield Finding("ra_config.any_code", "neither mr_enclave nor mr_signer is checked: anybody's code is accepted")
    if any(switches.values()) and not items:
        yield Finding("ra_config.nobody", "the list is empty: no enclave is accepted")
    for field in FIELDS:
        if members[_SWITCH + field] is True:
            yield Finding(
                "ra_config.boolean_switch",
                f"verify_{field} is true, which that server takes for off: it never checked {field}; it is checked now",
            )
    yield from _number_findings(switches, items)


def _number_findings(switches: dict[str, bool], items: list[object]) -> Iterator[Finding]:
    for name in NUMBERS:
        written = [item.get(name) for item in items if isinstance(item, dict)]
        if switches[name] and any(isinstance(value, str) and value != "0" for value in written):
            yield Finding(
                "ra_config.number_in_string",
                f"{name} is written as a string, which that server reads as 0: it accepted {name} 0 and nothing else; "
                "the number is meant now",
            )
    if switches["isv_svn"] and any(isinstance(item, dict) and "isv_svn" in item for item in items):
        yield Finding(
            "ra_config.exact_svn",
            f'isv_svn is compared for equality: a newer enclave is refused; "{MINIMUM_ISV_SVN}" says at least',
        )
