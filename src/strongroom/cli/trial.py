"""What trials on one machine share: a fresh folder, a simulated machine, and a broker that trusts it."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.errors import WouldOverwrite

if TYPE_CHECKING:
    from strongroom.cli.stage import Stage


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
    port = str(_free_port())
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
