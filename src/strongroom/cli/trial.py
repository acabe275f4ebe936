"""What trials on one machine share: a fresh folder, a simulated machine, and a broker that trusts it."""

import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.errors import UnavailableError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.cli.stage import Stage

_PORTS: Final = range(20_000, 30_000)  # below those that Linux and IANA give to whoever asks for any


def fresh_folder(out: Path, marker: str) -> Path:
    """An empty folder; what an earlier trial left in it is removed.

    Args:
        out: The folder.
        marker: File that says that such a trial made the folder.

    Returns:
        Its absolute path.

    Raises:
        WouldOverwrite: It holds something else.
    """
    out = out.absolute()
    if out.exists() and any(out.iterdir()):
        if not (out / marker).is_file():
            raise WouldOverwrite(
                f"{out} is not empty and not an earlier trial", hint="choose another folder with --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / marker).touch()
    return out


@contextmanager
def simulated_broker(stage: "Stage") -> Iterator[None]:
    """A simulated machine and a broker that trusts it by name, both in the trial's folder, for the length of the block.

    Yields:
        Nothing; the stage's environment names them from then on.
    """
    out = stage.out
    machine, broker = str(out / "simulated-machine"), str(out / "broker")
    stage.title("A simulated machine with a TEE, and a key broker that trusts it (by name)")
    stage.run("platform", "simulate", machine)
    port = str(free_port())
    stage.run("broker", "init", broker, "--port", port, "--allow-simulated", "--simulated-machine", machine)
    with stage.serving("broker", "serve", broker, ready_file=out / "broker.ready"):
        stage.environment |= {
            "STRONGROOM_OWNER": f"{broker}/owner",
            "STRONGROOM_ROOM": f"{broker}/room",
            "STRONGROOM_STORAGE": str(out / "storage"),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": machine,
        }
        yield


def free_port() -> int:
    """A free TCP port of this machine that the system gives to nobody who asks for any while its listener starts.

    Raises:
        UnavailableError: There is none.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise UnavailableError("no free port on this machine", code="trial.port")
