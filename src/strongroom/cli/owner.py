"""Options and calls that the owner's commands share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.broker.client import OwnerClient

Owner = Annotated[
    Path | None,
    typer.Option(
        "--owner",
        metavar="DIR",
        envvar="STRONGROOM_OWNER",
        help="The owner's folder that `strongroom broker init` wrote.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def owner_client(folder: Path | None) -> "OwnerClient":
    """The client for an owner's folder.

    Raises:
        ConfigurationError: No folder is named, or a file in it is absent or malformed.
    """
    from strongroom.broker.client import OwnerClient

    if folder is None:
        raise ConfigurationError(
            "which broker? name the owner's folder",
            code="owner.missing",
            hint="--owner DIR or STRONGROOM_OWNER=DIR; `strongroom broker init BROKER` writes it to BROKER/owner",
        )
    return OwnerClient(folder)


def say(text: str) -> None:
    """Talk to the person: stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def put(text: str) -> None:
    """Data: stdout."""
    print(text)  # noqa: T201
