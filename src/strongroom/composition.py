"""Reads settings once and wires the parts. The only module that may name the simulated platform."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from strongroom.errors import ConfigurationError, FormatError
from strongroom.outcome import end_with_status

if TYPE_CHECKING:
    from strongroom.broker.setup import SimulatedTrust
    from strongroom.platforms import Platform
    from strongroom.room import BrokerAddress, Room
    from strongroom.workload.definition import Workload

# Names the socket of the node's relay, in place of /run/strongroom-evidence/evidence.sock.
EVIDENCE_SOCKET = "STRONGROOM_EVIDENCE_SOCKET"
SIMULATED_WARNING = "simulated platform: nothing here is protected from the owner of this machine"


class RoomSettings(BaseSettings):
    """What a process inside the room is told by its environment. Nothing in here is secret or trusted with secrets."""

    model_config = SettingsConfigDict(env_prefix="STRONGROOM_", frozen=True)

    workload: Path
    """The workload's TOML file (STRONGROOM_WORKLOAD)."""
    room: Path
    """Folder with room.toml (the broker's url) and ca.pem, as `strongroom broker init` writes it."""
    storage: Path = Path()
    """Folder of the sealed files; the workload's mounts are relative to it."""
    platform: Literal["auto", "simulated"] = "auto"
    """`auto` takes the hardware that is here; `simulated` must be asked for by name."""
    simulated_machine: Path | None = None
    """Folder of the simulated machine, with `platform = "simulated"` only."""


def enter() -> "Room":
    """Enter the room: find the platform, prove what runs here, receive the keys.

    Reads `RoomSettings` from the environment (``strongroom workload run`` sets it). From here on an uncaught error of
    ours ends the process with `error:` and `hint:` lines and its exit status instead of a traceback.

    Returns:
        The room; use it as a context manager.

    Raises:
        ConfigurationError: The environment, the workload file or the room folder is wrong, or no platform is here.
        PolicyRejected: The broker has no grant that accepts this code on this platform.
        KeyReleaseError: The broker refused and did not say more.
        UnavailableError: The broker or the platform does not answer.
        VerificationError: An answer was not made for this session.
        FormatError: An answer does not follow the protocol.
    """
    from strongroom.room import enter_room
    from strongroom.workload import load_workload

    sys.excepthook = end_with_status
    settings = room_settings()
    workload = load_workload(settings.workload)
    return enter_room(
        find_platform(settings, workload), broker_address(settings.room, workload), workload, settings.storage
    )


def arguments() -> tuple[str, ...]:
    """The arguments of the workload's command, then what whoever started it added (``insecure_host_arguments``).

    As after `enter`, an uncaught error of ours ends the process with `error:` and `hint:` lines, not a traceback.

    Raises:
        ConfigurationError: What was added is malformed.
    """
    from strongroom.workload.arguments import VARIABLE, read_arguments

    sys.excepthook = end_with_status
    added = os.environ.get(VARIABLE)
    try:
        return (*sys.argv[1:], *(read_arguments(added) if added else ()))
    except FormatError as error:
        raise ConfigurationError(
            f"{VARIABLE} is malformed: {error.message}",
            code="workload.arguments",
            hint="""set it to {"arguments": ["one", "two"]}, or not at all""",
        ) from None


def room_settings() -> RoomSettings:
    """The settings of this process.

    Raises:
        ConfigurationError: One is missing or malformed.
    """
    try:
        return RoomSettings()  # type: ignore[call-arg]  # the values come from the environment
    except ValidationError as error:
        names = ", ".join("STRONGROOM_" + str(e["loc"][0]).upper() for e in error.errors() if e["loc"])
        raise ConfigurationError(
            f"not set or malformed: {names}",
            code="room.settings",
            hint="start the workload with `strongroom workload run FILE`",
        ) from None


def broker_address(folder: Path, workload: "Workload") -> "BrokerAddress":
    """Read ``room.toml`` of a room folder; the CA is the measured one, or ``ca.pem`` beside it if none was measured.

    Raises:
        ConfigurationError: The file is missing or holds anything but ``url``.
    """
    from strongroom.formats.toml import parse_toml
    from strongroom.room import BrokerAddress

    path = folder / "room.toml"
    hint = "`strongroom broker init DIR` writes DIR/room"
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"can't read {path}", code="room.settings", hint=hint) from None
    values = parse_toml(raw, what=str(path), code="room.settings", hint=hint)
    if values.keys() != {"url"} or not isinstance(values["url"], str):
        raise ConfigurationError(f'{path} must hold url = "https://..." and nothing else', code="room.settings")
    ca_file = folder / "ca.pem" if workload.broker_ca is None else workload.folder / workload.broker_ca
    return BrokerAddress(values["url"], ca_file)


def find_platform(settings: RoomSettings, workload: "Workload") -> "Platform":
    """The platform this process runs on.

    Raises:
        ConfigurationError: No hardware is here and the simulated platform was not asked for by name.
    """
    if settings.platform == "simulated":
        return _simulated(settings.simulated_machine, workload)
    return _hardware()


def platform_for(workload: Path | None, simulated_machine: Path | None) -> "Platform":
    """The platform of a command that is given its options by hand.

    Args:
        workload: Definition whose measurement a simulated machine speaks about.
        simulated_machine: Folder of a simulated machine; None: the hardware this process runs on.

    Raises:
        ConfigurationError: No hardware is here; or a file is wrong, or only one of the two is named.
    """
    from strongroom.workload import load_workload

    if simulated_machine is None:
        return _hardware("to try it without one: --simulated-machine DIR and --workload FILE")
    if workload is None:
        raise ConfigurationError("a simulated machine needs a workload to speak about", code="platform.workload")
    return _simulated(simulated_machine, load_workload(workload))


def detect_platform() -> "Platform | None":
    """The hardware this process runs on, or the relay of its node; None where there is neither.

    Raises:
        ConfigurationError: `EVIDENCE_SOCKET` names what is no socket (``platform.relay``).
        UnavailableError: The relay gives no evidence (``platform.relay``).
    """
    from strongroom.platforms.detect import detect
    from strongroom.platforms.relay import SOCKET

    named = os.environ.get(EVIDENCE_SOCKET)
    if named and not Path(named).is_socket():
        raise ConfigurationError(f"{EVIDENCE_SOCKET}: {named} is no socket", code="platform.relay")
    return detect(relay_socket=Path(named) if named else SOCKET)


def _hardware(
    hint: str = "to try Strongroom without one: STRONGROOM_PLATFORM=simulated and STRONGROOM_SIMULATED_MACHINE=FOLDER",
) -> "Platform":
    platform = detect_platform()
    if platform is not None:
        return platform
    raise ConfigurationError(
        "no trusted execution environment was found on this machine",
        code="platform.none",
        hint=hint,
    )


def _simulated(machine: Path | None, workload: "Workload") -> "Platform":
    from strongroom.platforms.simulated import SimulatedMachine
    from strongroom.workload import measure

    if machine is None:
        raise ConfigurationError(
            "STRONGROOM_SIMULATED_MACHINE is not set",
            code="platform.simulated_machine",
            hint="`strongroom platform simulate FOLDER` makes one",
        )
    print(f"warning: {SIMULATED_WARNING}", file=sys.stderr)  # noqa: T201
    return SimulatedMachine.load(machine).platform(
        mr_enclave=measure(workload).mr_enclave,
        isv_prod_id=workload.product_id,
        isv_svn=workload.security_version,
    )


def simulated_trust(machine: Path) -> "SimulatedTrust":
    """What a broker needs to believe a simulated machine: its root certificate and its collateral, no private key.

    Raises:
        ConfigurationError: The folder is not a simulated machine.
    """
    from strongroom.broker.setup import SimulatedTrust
    from strongroom.platforms.simulated import read_trust

    root_der, collateral = read_trust(machine)
    return SimulatedTrust(root_der, collateral.encode())


def create_simulated_machine(folder: Path) -> None:
    """Make a simulated machine in a new or empty folder.

    Raises:
        WouldOverwrite: Something is in the folder.
        ConfigurationError: The folder can't be written.
    """
    import datetime as dt

    from strongroom.platforms.simulated import SimulatedMachine

    SimulatedMachine.create(folder, dt.datetime.now(dt.UTC))
