"""The job: which application may run with this workload's keys, and which settings its owner allows.

Where an image holds only Spark, the application comes from the cluster, and is not part of what was measured. Then its
owner stores the job at the broker, like a key, and names it in the workload with the alias ``job``: the entry point
runs this application and no other.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.analytics.spark.settings import PINNED
from strongroom.errors import FormatError, VerificationError
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object
from strongroom.formats.members import Members

FORMAT: Final = "strongroom-spark-job/1"
MAX_JOB_BYTES: Final = 64 * 1024
MAX_SETTINGS: Final = 200
_CODE: Final = "job.malformed"


@dataclass(frozen=True, slots=True)
class Job:
    """What may run.

    Args:
        application: SHA-256 of the application's file, 32 bytes.
        settings: Name and value of settings that are used, and that a cluster may repeat.
    """

    application: bytes
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that nobody may change.

        Raises:
            FormatError: A setting is pinned to another value.
        """
        for name, value in self.settings.items():
            if PINNED.get(name, value) != value:
                raise FormatError(f"the setting {name} is pinned to {PINNED[name]!r}", code="job.pinned")


def make_job(application: bytes, settings: Mapping[str, str]) -> Job:
    """The job of an application.

    Args:
        application: The application's file.
        settings: What its owner allows.

    Raises:
        FormatError: A setting is pinned to another value.
    """
    return Job(hashlib.sha256(application).digest(), dict(settings))


def serialize_job(job: Job) -> bytes:
    """The canonical form, to be stored at the broker."""
    settings: dict[str, JsonValue] = dict(job.settings)
    return canonical_json({"format": FORMAT, "application": job.application.hex(), "settings": settings})


def parse_job(raw: bytes) -> Job:
    """Parse what the owner stored.

    Raises:
        FormatError: Not a job, or a member is malformed.
    """
    members = Members(parse_json_object(raw, max_bytes=MAX_JOB_BYTES), what="job", code=_CODE)
    if members.text("format") != FORMAT:
        raise members.refuse("format", f"is not {FORMAT}")
    application = members.octets("application", 32)
    settings = members.value("settings")
    members.finish()
    if not isinstance(settings, dict) or len(settings) > MAX_SETTINGS:
        raise members.refuse("settings", f"is not an object of at most {MAX_SETTINGS} members")
    if not all(isinstance(value, str) for value in settings.values()):
        raise members.refuse("settings", "holds something else than text")
    return Job(application, {name: str(value) for name, value in settings.items()})


def check_application(job: Job, application: bytes) -> None:
    """Refuse another application than the job's.

    Args:
        job: From the broker.
        application: The file that is about to run.

    Raises:
        VerificationError: It is another one.
    """
    if hashlib.sha256(application).digest() != job.application:
        raise VerificationError(
            "this is not the application that its owner stored at the broker",
            code="job.application",
            hint="if it is what should run: strongroom analytics job APP.py, and import that at the broker",
        )
