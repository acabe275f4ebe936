"""Reads the site file: strict, bounded, and nothing private in what it names."""

import ipaddress
import re
from pathlib import Path
from typing import Final

from strongroom.broker.database_url import parse_database_url
from strongroom.deployment.kubernetes.components import COMPONENTS
from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.deployment.kubernetes.site import Broker, Database, Nodes, Pipeline, Service, Share, Site, Spark
from strongroom.errors import ConfigurationError
from strongroom.formats.toml import parse_toml
from strongroom.workload import load_workload
from strongroom.workload.fields import Table, no_duplicates, refuse_field

MAX_SITE_BYTES: Final = 256 * 1024
MAX_CLIENTS: Final = 64
NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+"
IMAGE: Final = r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)+@sha256:[0-9a-f]{64}"
GUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ACCOUNT: Final = r"[a-z0-9]{3,24}"
GROUP: Final = r"[A-Za-z0-9._()-]{0,89}[A-Za-z0-9_()-]"
_IMAGE_SAYS: Final = "REGISTRY/NAME@sha256:64 digits (a tag can be moved)"


def load_site(path: Path) -> Site:
    """Read a site file; paths in it are relative to its folder.

    Raises:
        ConfigurationError: It can't be read, a field is wrong, or a workload is.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SITE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"can't read {path}: {error.strerror}", code="deploy.site", hint="`strongroom deploy init DIR` writes one"
        ) from None
    if len(raw) > MAX_SITE_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_SITE_BYTES} bytes", code="deploy.site")
    document = Table(parse_toml(raw, what=str(path), code="deploy.site"))
    return _site(document, path.absolute().parent)


def _site(document: Table, folder: Path) -> Site:
    loan = _service(document, "loan", folder)
    site = Site(
        namespace=document.text("namespace", pattern=NAME, says="a DNS label", limit=50),
        clients=tuple(_network(text, "clients") for text in document.texts("clients", most=MAX_CLIENTS)),
        cluster=_network(document.text("cluster"), "cluster"),
        nodes=_nodes(document.table("nodes")),
        broker=_broker(document.table("broker"), folder),
        share=_share(document.table("share")) if loan else None,
        loan=loan,
        models=_service(document, "models", folder),
        tensorflow=_service(document, "tensorflow", folder),
        spark=_spark(document.table("spark"), folder),
        pipeline=_pipeline(document.table("pipeline")),
        components=_components(document),
    )
    document.finish()
    return site


def _components(document: Table) -> tuple[str, ...]:
    names = document.texts("components", most=len(COMPONENTS), default=[])
    for name in names:
        if name not in COMPONENTS:
            refuse_field("components", f"has {name[:60]!r}", hint=f"one of {', '.join(COMPONENTS)}")
    return no_duplicates(names, "components")


def _nodes(table: Table) -> Nodes:
    name = table.text("size")
    if name not in SIZES:
        refuse_field(
            "nodes.size", f"is {name[:60]!r}, which is not a known size", hint=f"one of {', '.join(sorted(SIZES))}"
        )
    most = table.number("most", 1, 1000)
    labels = table.table("selector")
    selector = {
        label: labels.text(label) for label in labels.names(most=8, pattern=r"[A-Za-z0-9./_-]+", says="a label")
    }
    nodes = Nodes(
        SIZES[name],
        most,
        selector,
        table.text("relay", pattern=f"|{IMAGE}", says=_IMAGE_SAYS, default="") or None,
        table.text("evidence", pattern="vtpm|configfs-tsm", says="vtpm or configfs-tsm", default="vtpm"),
    )
    table.finish()
    return nodes


def _broker(table: Table, folder: Path) -> Broker:
    image = table.text("image", pattern=f"|{IMAGE}", says=_IMAGE_SAYS, default="")
    address = table.text("address", default="")
    if bool(image) == bool(address):
        refuse_field("broker", "needs either image (it runs here) or address (it runs elsewhere)")
    room = folder / table.text("room")
    broker = Broker(
        image or None,
        _network(address, "broker.address") if address else None,
        table.number("port", 1, 65535, default=8443),
        _read(room / "room.toml"),
        _read(room / "ca.pem"),
        table.text("key_vault", pattern="|[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]", says="a key vault's name", default="")
        or None,
        table.text("tenant", pattern=f"|{GUID}", says="a GUID", default="") or None,
        table.text("client_id", pattern=f"|{GUID}", says="a GUID", default="") or None,
        _database(table.table("database"), folder),
    )
    table.finish()
    return broker


def _database(table: Table, folder: Path) -> Database | None:
    url = table.text("url", default="", limit=400)
    if not url:
        table.finish()
        return None
    if "?" in url:
        refuse_field("broker.database.url", "has options: the component sets them")
    # Whatever the files are called in the pod, the rest is checked as the broker will.
    address = parse_database_url(f"{url}?sslmode=verify-full&sslrootcert=/ca.pem")
    database = Database(
        url,
        address.port,
        _network(table.text("network"), "broker.database.network"),
        _read(folder / table.text("ca")),
        table.text("login", pattern="password|certificate", says="password or certificate", default="password"),
    )
    table.finish()
    return database


def _share(table: Table) -> Share:
    share = Share(
        table.text("account", pattern=ACCOUNT, says="3 to 24 of a-z and 0-9"),
        table.text("name", pattern=r"[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])", says="a share's name"),
        table.text("resource_group", pattern=GROUP, says="a resource group's name"),
        table.number("size_gib", 1, 102_400, default=20),
        table.text("client_id", pattern=GUID, says="a GUID"),
    )
    table.finish()
    return share


def _service(document: Table, name: str, folder: Path) -> Service | None:
    table = document.table(name)
    workload = table.text("workload", default="")
    if not workload:
        table.finish()
        return None
    least, most = table.number("least", 1, 1000, default=1), table.number("most", 1, 1000, default=5)
    if least > most:
        refuse_field(f"{name}.least", f"is larger than most ({most})")
    opener = table.text("opener", default="") if name == "tensorflow" else ""
    service = Service(
        load_workload(folder / workload),
        table.text("image", pattern=IMAGE, says=_IMAGE_SAYS),
        least,
        most,
        table.text("host", pattern=HOST, says="a DNS name", limit=253),
        load_workload(folder / opener) if opener else None,
        table.text("opener_image", pattern=IMAGE, says=_IMAGE_SAYS) if opener else None,
    )
    table.finish()
    return service


def _spark(table: Table, folder: Path) -> Spark | None:
    driver = table.text("driver", default="")
    if not driver:
        table.finish()
        return None
    spark = Spark(
        load_workload(folder / driver),
        load_workload(folder / table.text("executor")),
        table.text("image", pattern=IMAGE, says=_IMAGE_SAYS),
        table.number("executors", 1, 1000, default=2),
    )
    table.finish()
    return spark


def _pipeline(table: Table) -> Pipeline | None:
    namespace = table.text("namespace", pattern=f"|{NAME}", says="a DNS label", default="")
    client_id = table.text("client_id", pattern=f"|{GUID}", says="a GUID", default="")
    table.finish()
    return Pipeline(namespace, client_id or None) if namespace else None


def _network(text: str, where: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        refuse_field(where, f"has {text[:60]!r}, which is no network", hint="CIDR notation, for example 203.0.113.0/24")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SITE_BYTES + 1)
        text = raw.decode("ascii")
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or len(text) > MAX_SITE_BYTES or re.search("PRIVATE KEY", text):
        raise ConfigurationError(
            f"{path} is missing or not public", code="deploy.room", hint="`strongroom broker init` writes DIR/room"
        )
    return text
