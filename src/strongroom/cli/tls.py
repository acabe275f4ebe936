"""`strongroom tls`: certificates and ssl.cfg of a model server."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from cryptography.x509 import Extensions

app = noun_app("TLS of a model server: certificates with the right names, and ssl.cfg for TensorFlow Serving.")

Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="DNS names and IP addresses clients use.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the files.", show_default=False)]

EPILOG: Final = """Examples:

\b
  strongroom tls one-way grpc.example.com 10.0.0.7 --out tls
  strongroom tls two-way grpc.example.com --client client.example.com --out tls
  strongroom tls show tls/ssl.cfg

Clients trust DIR/ca_cert.pem. Seal ssl.cfg before it goes to the cloud: it holds the server's private key.
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is told about a certificate."""

    subject: str
    names: tuple[str, ...]
    not_after: str


@dataclass(frozen=True, slots=True)
class Said:
    """What is told about an ssl.cfg."""

    server: tuple[Certificate, ...]
    custom_ca: tuple[Certificate, ...]
    client_verify: bool


@app.command("one-way", epilog=EPILOG)
def one_way(names: Names, out: Out) -> None:
    """Make the certificate of a server that takes any client."""
    _make(names, out, None)


@app.command("two-way", epilog=EPILOG)
def two_way(
    names: Names,
    out: Out,
    client: Annotated[str, typer.Option("--client", metavar="NAME", help="DNS name of the client.")],
) -> None:
    """Make the certificates of a server that wants a certificate from its clients, and of one client."""
    _make(names, out, client)


@app.command(help="Print what an ssl.cfg says, without the private key.", epilog=EPILOG)
def show(
    file: Annotated[Path, typer.Argument(metavar="ssl.cfg", help="The file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Print what an ssl.cfg says, without the private key.

    Raises:
        ConfigurationError: The file can't be read.
        FormatError: It is not an ssl.cfg, or not one a server should run with.
    """
    from strongroom.formats.ssl_config import MAX_BYTES, parse_ssl_config

    try:
        with file.open("rb") as source:
            config = parse_ssl_config(source.read(MAX_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="tls.file") from None
    said = Said(
        _certificates(config.server_cert),
        _certificates(config.custom_ca) if config.custom_ca else (),
        config.client_verify,
    )
    if as_json:
        put(json.dumps(asdict(said), indent=2))
        return
    for certificate in said.server:
        put(f"server   {certificate.subject}  names {' '.join(certificate.names) or '(none)'}")
        put(f"         until {certificate.not_after}")
    put(f"clients  {'must show a certificate' if config.client_verify else 'need no certificate'}")


def _make(names: list[str], out: Path, client: str | None) -> None:
    from strongroom.broker.folder import PUBLIC_FILE_MODE, make_private_folder, write_new
    from strongroom.deployment.service_tls import service_tls

    files = service_tls(names, datetime.now(UTC), client=client)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WouldOverwrite(f"there is something already: {out}", hint="name a new folder")
    try:
        for folder in sorted({(out / file.path).parent for file in files}):
            if not folder.exists():
                make_private_folder(folder)
        for file in files:
            if file.private:
                write_new(out / file.path, file.content)
            else:
                write_new(out / file.path, file.content, PUBLIC_FILE_MODE)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {out}: {error.strerror}", code="tls.out") from None
    for file in files:
        put(str(out / file.path))
    say(f"seal it before it goes to the cloud: strongroom seal {out / 'ssl.cfg'}")


def _certificates(pem: str) -> tuple[Certificate, ...]:
    from cryptography import x509

    from strongroom.errors import FormatError

    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii"))
        return tuple(
            Certificate(c.subject.rfc4514_string(), _names(c.extensions), c.not_valid_after_utc.isoformat())
            for c in found
        )
    except (ValueError, x509.InvalidVersion):
        raise FormatError("ssl.cfg holds something that is no certificate", code="ssl_config.certificate") from None


def _names(extensions: "Extensions") -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)
