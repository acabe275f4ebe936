"""A relay in a process of its own, over doubles of AMD and of Azure's virtual TPM.

Arguments: guest_double.py, the socket, and a folder for what a broker must believe: collateral and the root's key.
"""

import importlib.util
import json
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from strongroom.platforms.relay import serve_relay


def say_ready(socket: Path, stopped: threading.Event) -> None:
    while not socket.is_socket() and not stopped.wait(0.01):
        pass
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(module: str, socket: str, folder: str) -> None:
    spec = importlib.util.spec_from_file_location("guest_double", module)
    assert spec is not None
    assert spec.loader is not None
    double = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = double
    spec.loader.exec_module(double)
    amd, now = double.AmdDouble.create(), datetime.now(UTC)
    vtpm = double.VtpmDouble()
    window = (now - timedelta(days=1), now + timedelta(days=30))
    Path(folder, "collateral.json").write_bytes(amd.collateral(crl=amd.crl(validity=window)).to_json().encode())
    facts = {
        "measurement": amd.report().measurement.hex(),
        "pcr": vtpm.pcrs[4].hex(),
        "root": dict(amd.root.keys),
    }
    Path(folder, "facts.json").write_text(json.dumps(facts))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
    threading.Thread(target=say_ready, args=(Path(socket), stopped), daemon=True).start()
    serve_relay(Path(socket), double.GuestPlatform(amd, vtpm), stopped, say)


if __name__ == "__main__":
    main(*sys.argv[1:])
