"""Receipts: a signed statement of what was computed, from which tables, by what, and what came out."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from strongroom import __version__
from strongroom.analytics.engine import query_digest
from strongroom.analytics.manifest import Manifest
from strongroom.analytics.signing import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Signer, verify_signature
from strongroom.attestation.appraise import Rejected, appraise
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import FormatError, PolicyRejected, VerificationError
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object
from strongroom.formats.members import Members, timestamp
from strongroom.ratls.verify import QuoteVerifier

FORMAT: Final = "strongroom-analytics-receipt/1"
KIND: Final = "analytics receipt"
MAX_RECEIPT_BYTES: Final = 4 * 1024 * 1024
_CODE: Final = "receipt.malformed"
_MEMBERS: Final = frozenset(
    {"format", "query", "tables", "engine", "strongroom", "workers", "output", "started", "finished"}
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that took part.

    Args:
        role: "query", "driver" or "executor".
        platform: "none" for a process outside a TEE, else "simulated", "gramine", ...
        workload: Name of the workload it ran as; empty outside a room.
        quote: Its evidence over the receipt's signing key, as base64; empty outside a room.
    """

    role: str
    platform: str
    workload: str = ""
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """What came out.

    Args:
        form: "table", "csv", "json" or "sealed".
        digest: SHA-256 of the bytes that were written; of the new manifest for "sealed".
        rows: Number of rows.
    """

    form: str
    digest: bytes
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is stated.

    Args:
        query: SHA-256 of the statement.
        tables: Manifests of the tables it read.
        engine: Name and version of the engine.
        workers: Processes that took part.
        output: What came out.
        started: When the query began.
        finished: When its last row was written.
    """

    query: bytes
    tables: tuple[Manifest, ...]
    engine: tuple[str, str]
    workers: tuple[Worker, ...]
    output: Output
    started: datetime
    finished: datetime


def signer_statement(public: bytes) -> bytes:
    """The 64 bytes of report data by which a quote vouches for a receipt's signing key.

    Args:
        public: The key, 32 bytes.
    """
    return hashlib.sha512(b"strongroom analytics receipt signer\0" + public).digest()


def sign_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """Sign a receipt.

    Returns:
        JSON: the statement as canonical text, the signer's public key, the signature.
    """
    payload = canonical_json(_statement(receipt))
    return canonical_json(
        {
            "receipt": payload.decode(),
            "signer": signer.public.hex(),
            "signature": signer.sign(KIND, payload).hex(),
        }
    )


def _statement(receipt: Receipt) -> dict[str, JsonValue]:
    return {
        "format": FORMAT,
        "query": receipt.query.hex(),
        "tables": [_table(manifest) for manifest in receipt.tables],
        "engine": {"name": receipt.engine[0], "version": receipt.engine[1]},
        "strongroom": __version__,
        "workers": [
            {"role": w.role, "platform": w.platform, "workload": w.workload, "quote": w.quote} for w in receipt.workers
        ],
        "output": {"form": receipt.output.form, "digest": receipt.output.digest.hex(), "rows": receipt.output.rows},
        "started": timestamp(receipt.started),
        "finished": timestamp(receipt.finished),
    }


def _table(manifest: Manifest) -> JsonValue:
    return {"name": manifest.table, "version": manifest.version, "manifest": manifest.digest.hex()}


def verify_receipt(
    raw: bytes,
    *,
    trusted: frozenset[bytes],
    sql: str | None = None,
    output: bytes | None = None,
    manifests: Iterable[Manifest] = (),
) -> dict[str, Any]:
    """Check a receipt's signature, and whatever it is to be compared with.

    Args:
        raw: What `sign_receipt` returned.
        trusted: Public keys that are believed.
        sql: The statement that should have been run.
        output: SHA-256 of what should have come out.
        manifests: Tables that should have been read.

    Returns:
        The statement.

    Raises:
        FormatError: Not a receipt.
        VerificationError: The signature is wrong, the signer is not trusted, or it states something else.
    """
    envelope = Members(parse_json_object(raw, max_bytes=MAX_RECEIPT_BYTES), what="receipt", code=_CODE)
    payload = envelope.text("receipt", max_length=MAX_RECEIPT_BYTES).encode()
    signer = envelope.octets("signer", PUBLIC_KEY_SIZE)
    signature = envelope.octets("signature", SIGNATURE_SIZE)
    envelope.finish()
    if signer not in trusted:
        raise VerificationError(
            f"the receipt is signed by {signer.hex()}, who is not trusted",
            code="receipt.signer",
            hint="if you know this signer: --trust " + signer.hex(),
        )
    verify_signature(signer, KIND, payload, signature)
    statement = parse_json_object(payload, max_bytes=MAX_RECEIPT_BYTES)
    if statement.keys() != _MEMBERS or statement["format"] != FORMAT:
        raise FormatError(f"the receipt does not follow {FORMAT}", code=_CODE)
    _compare(statement, sql, output, manifests)
    return statement


def vouched_signer(raw: bytes, genuine: QuoteVerifier, policy: AppraisalPolicy, now: datetime) -> bytes:
    """The signer of a receipt, if the evidence in it vouches for this signer.

    Args:
        raw: What `sign_receipt` returned.
        genuine: Verifies quotes.
        policy: What is expected of every process that took part.
        now: Aware time.

    Returns:
        The signing key, for `verify_receipt`, which checks the signature.

    Raises:
        FormatError: Not a receipt.
        VerificationError: A process has no evidence, or its evidence is not genuine or about another key.
        PolicyRejected: The policy does not accept a process.
        UnavailableError: It can't be verified now.
    """
    envelope = parse_json_object(raw, max_bytes=MAX_RECEIPT_BYTES)
    try:
        signer = bytes.fromhex(str(envelope["signer"]))
        workers: Any = parse_json_object(str(envelope["receipt"]).encode(), max_bytes=MAX_RECEIPT_BYTES)["workers"]
        quotes = [base64.b64decode(worker["quote"], validate=True) for worker in workers]
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"the receipt does not follow {FORMAT}", code=_CODE) from None
    if not quotes or not all(quotes):
        raise VerificationError("a process that took part has no evidence", code="receipt.no_evidence")
    for quote in quotes:
        claims = genuine(quote, now)
        if claims.report_data != signer_statement(signer):
            raise VerificationError("the evidence is about another signing key", code="receipt.evidence")
        outcome = appraise(claims, policy, now)
        if isinstance(outcome, Rejected):
            raise PolicyRejected(outcome.findings)
    return signer


def _compare(statement: dict[str, Any], sql: str | None, output: bytes | None, manifests: Iterable[Manifest]) -> None:
    if sql is not None and statement["query"] != query_digest(sql).hex():
        raise VerificationError("the receipt is about another query", code="receipt.query")
    if output is not None and statement["output"]["digest"] != output.hex():
        raise VerificationError("the receipt is about another output", code="receipt.output")
    for manifest in manifests:
        if _table(manifest) not in statement["tables"]:
            raise VerificationError(
                f"the receipt is about another version of table {manifest.table}", code="receipt.table"
            )
