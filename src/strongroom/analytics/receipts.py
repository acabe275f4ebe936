"""Receipts: a signed statement of what was computed, from which tables, by what, and what came out."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from strongroom import __version__
from strongroom.analytics.manifest import Manifest
from strongroom.analytics.signing import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Signer, verify_signature
from strongroom.attestation.appraise import Rejected, appraise
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import FormatError, PolicyRejected, VerificationError
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object
from strongroom.formats.members import Members, timestamp
from strongroom.ratls.verify import QuoteVerifier

FORMAT: Final = "strongroom-analytics-receipt/2"
KIND: Final = "analytics receipt"
MAX_EXECUTORS: Final = 500
MAX_RECEIPT_BYTES: Final = 16 * 1024 * 1024
QUERY, DRIVER, DRIVER_ALONE, EXECUTOR = "query", "driver", "driver and executor", "executor"
"""What a process did: the embedded engine; Spark on a cluster; Spark in one process; tasks of the driver's."""
_ROLES: Final = (QUERY, DRIVER, DRIVER_ALONE, EXECUTOR)
_CODE: Final = "receipt.malformed"
_MEMBERS: Final = frozenset(
    {
        "format",
        "query",
        "tables",
        "engine",
        "strongroom",
        "job",
        "workers",
        "federation",
        "outputs",
        "started",
        "finished",
    }
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that took part.

    Args:
        role: `QUERY`, `DRIVER`, `DRIVER_ALONE` or `EXECUTOR`.
        platform: "none" for a process outside a TEE, else "simulated", "gramine", ...
        workload: Name of the workload it ran as; empty outside a room.
        quote: Its evidence as base64, over the receipt's signing key (`signer_statement`) or an executor's part in the
            job (`executor_statement`); empty outside a room.
        name: Application and number of an executor; else empty.
    """

    role: str
    platform: str
    workload: str = ""
    quote: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """What came out.

    Args:
        form: "table", "csv", "json", "sealed" or "model".
        digest: SHA-256 of the bytes that were written; of the new manifest for "sealed".
        rows: Number of rows.
        name: Of the new table for "sealed"; else empty.
    """

    form: str
    digest: bytes
    rows: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What a party of a federated training states about it; but for `rank`, the same at every party.

    Args:
        coordinator: Where the party met the others, ``HOST:PORT``. Only attested code gets the key to answer there.
        parties: Number of parties.
        rank: Number of this one, from 0.
        rounds: Boosting rounds.
        agreement: SHA-256 over parties, rounds, parameters and features, on which all agreed before they trained.
        parameters: XGBoost's, as text.
    """

    coordinator: str
    parties: int
    rank: int
    rounds: int
    agreement: bytes
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is stated.

    Args:
        query: SHA-256 of the statement, or of the application's file.
        tables: Manifests of the tables it read.
        engine: Name and version of the engine.
        workers: Processes that took part.
        outputs: What came out.
        started: When the query began.
        finished: When its last row was written.
        job: What its executors' evidence is about, 32 bytes; empty where there are none.
        federation: With whom and how it was trained; None for what one owner computed alone.
    """

    query: bytes
    tables: tuple[Manifest, ...]
    engine: tuple[str, str]
    workers: tuple[Worker, ...]
    outputs: tuple[Output, ...]
    started: datetime
    finished: datetime
    job: bytes = b""
    federation: Together | None = None


def signer_statement(public: bytes) -> bytes:
    """The 64 bytes of report data by which a quote vouches for a receipt's signing key.

    Args:
        public: The key, 32 bytes.
    """
    return hashlib.sha512(b"strongroom analytics receipt signer\0" + public).digest()


def executor_statement(job: bytes, signer: bytes, name: str) -> bytes:
    """The 64 bytes of report data by which an executor's quote speaks of its part in one job.

    Args:
        job: Random bytes of the driver, 32 bytes.
        signer: Public key that signs the receipt, 32 bytes.
        name: Application and number of the executor.
    """
    return hashlib.sha512(b"strongroom analytics executor\0" + job + signer + name.encode()).digest()


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
        "job": receipt.job.hex(),
        "workers": [
            {"role": w.role, "name": w.name, "platform": w.platform, "workload": w.workload, "quote": w.quote}
            for w in receipt.workers
        ],
        "federation": _federation(receipt.federation),
        "outputs": [
            {"form": made.form, "name": made.name, "digest": made.digest.hex(), "rows": made.rows}
            for made in receipt.outputs
        ],
        "started": timestamp(receipt.started),
        "finished": timestamp(receipt.finished),
    }


def _federation(together: Together | None) -> JsonValue:
    if together is None:
        return None
    return {
        "coordinator": together.coordinator,
        "parties": together.parties,
        "rank": together.rank,
        "rounds": together.rounds,
        "agreement": together.agreement.hex(),
        "parameters": dict(together.parameters),
    }


def _table(manifest: Manifest) -> JsonValue:
    return {"name": manifest.table, "version": manifest.version, "manifest": manifest.digest.hex()}


def verify_receipt(
    raw: bytes,
    *,
    trusted: frozenset[bytes],
    query: bytes | None = None,
    output: bytes | None = None,
    manifests: Iterable[Manifest] = (),
    agreement: bytes | None = None,
) -> dict[str, Any]:
    """Check a receipt's signature, and whatever it is to be compared with.

    Args:
        raw: What `sign_receipt` returned.
        trusted: Public keys that are believed.
        query: SHA-256 of the statement or application that should have been run.
        output: SHA-256 of what should be among what came out.
        manifests: Tables that should have been read.
        agreement: What the parties of a federated training should have agreed on.

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
    _compare(statement, query, output, manifests)
    federation = statement["federation"]
    agreed = federation.get("agreement") if isinstance(federation, dict) else None
    if agreement is not None and agreed != agreement.hex():
        raise VerificationError("the receipt is about another federated training", code="receipt.federation")
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
        VerificationError: A process has no evidence, or its evidence is not genuine, about another key, or about an
            executor of another job.
        PolicyRejected: The policy does not accept a process.
        UnavailableError: It can't be verified now.
    """
    signer, job, workers = _stated(raw)
    if not workers or not all(worker.quote for worker in workers):
        raise VerificationError("a process that took part has no evidence", code="receipt.no_evidence")
    if workers[0].role == EXECUTOR:
        raise VerificationError("no evidence is about the signing key", code="receipt.evidence")
    for worker in workers:
        claims = genuine(base64.b64decode(worker.quote), now)
        if claims.report_data != _expected(worker, job, signer):
            raise VerificationError(
                f"the evidence of the {worker.role} is about something else: "
                "another signing key, or an executor of another job",
                code="receipt.evidence",
            )
        outcome = appraise(claims, policy, now)
        if isinstance(outcome, Rejected):
            raise PolicyRejected(outcome.findings)
    return signer


def _stated(raw: bytes) -> tuple[bytes, bytes, list[Worker]]:
    """Signer, job and processes of a receipt whose signature nobody has checked yet.

    Raises:
        FormatError: Not a receipt.
    """
    envelope = parse_json_object(raw, max_bytes=MAX_RECEIPT_BYTES)
    try:
        signer = bytes.fromhex(str(envelope["signer"]))
        statement: Any = parse_json_object(str(envelope["receipt"]).encode(), max_bytes=MAX_RECEIPT_BYTES)
        job = bytes.fromhex(statement["job"])
        workers = [Worker(**{name: str(value) for name, value in worker.items()}) for worker in statement["workers"]]
        for worker in workers:
            _ROLES.index(worker.role)
            base64.b64decode(worker.quote, validate=True)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FormatError(f"the receipt does not follow {FORMAT}", code=_CODE) from None
    return signer, job, workers


def _expected(worker: Worker, job: bytes, signer: bytes) -> bytes:
    return executor_statement(job, signer, worker.name) if worker.role == EXECUTOR else signer_statement(signer)


def _compare(
    statement: dict[str, Any], query: bytes | None, output: bytes | None, manifests: Iterable[Manifest]
) -> None:
    if query is not None and statement["query"] != query.hex():
        raise VerificationError("the receipt is about another query", code="receipt.query")
    if output is not None and output.hex() not in [made["digest"] for made in statement["outputs"]]:
        raise VerificationError("the receipt is about another output", code="receipt.output")
    for manifest in manifests:
        if _table(manifest) not in statement["tables"]:
            raise VerificationError(
                f"the receipt is about another version of table {manifest.table}", code="receipt.table"
            )
