"""How fast sealed files are written and read, beside raw AES-128-GCM and a memory copy, in one run.

    python benchmarks/sealed_files.py [--mib 256] [--rounds 5] [--folder /dev/shm]

One thread unless a line says otherwise. "By CPU time" divides by the processor time that was used, the system's share
included, so that other work on the machine does not count; the ratios are taken from it. The folder is in memory by
default: the figures are about this code, not about a disk. Rounds are interleaved, so that a busy machine slows all
lines alike.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.room.files import ANY_PATH, create_sealed, open_sealed

KEY = bytes(range(16))
PIECE = 2**20
RANDOM_READS = 20_000
RESULT = Path(__file__).parent / "results" / "sealed_files.json"


def write_sealed(path: Path, plain: memoryview) -> None:
    with create_sealed(path, KEY) as writer:
        for at in range(0, len(plain), PIECE):
            writer.write(plain[at : at + PIECE])


def read_sealed(path: Path) -> None:
    buffer = memoryview(bytearray(PIECE))
    with open_sealed(path, KEY, sealed_path=ANY_PATH) as reader:
        while reader.readinto(buffer):
            pass


def read_at_random(path: Path, size: int) -> None:
    rng = random.Random(1)
    with open_sealed(path, KEY, sealed_path=ANY_PATH) as reader:
        for _ in range(RANDOM_READS):
            reader.seek(rng.randrange(size - 4096))
            reader.read(4096)


def write_plain(path: Path, plain: memoryview) -> None:
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(plain), PIECE):
            file.write(plain[at : at + PIECE])
        os.fsync(file.fileno())


def read_plain(path: Path) -> None:
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def raw_gcm(plain: memoryview, out: memoryview) -> None:
    # Whole pieces under one key: what AES-GCM does on this machine when nothing else is in the way.
    gcm = AESGCM(KEY)
    for at in range(0, len(plain), PIECE):
        gcm.encrypt_into(at.to_bytes(12, "big"), plain[at : at + PIECE], None, out)


def copy_memory(plain: memoryview, out: memoryview) -> None:
    for at in range(0, len(plain), PIECE):
        out[:PIECE] = plain[at : at + PIECE]


def at_once(act: Callable[[Path], None], paths: list[Path]) -> None:
    threads = [threading.Thread(target=act, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def machine() -> dict[str, object]:
    described = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    model = next((value.strip() for name, value in described if name.startswith("model name")), "?")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "openssl": backend.openssl_version_text(),
    }


def measure(folder: Path, size: int, rounds: int) -> dict[str, dict[str, float]]:
    plain = memoryview(bytearray(os.urandom(size)))
    out = memoryview(bytearray(PIECE + 16))
    sealed = folder / "sealed"
    threads = [folder / f"thread-{n}" for n in (1, 2)]
    flat = folder / "plain"
    lines: dict[str, tuple[int, Callable[[], None], list[Path]]] = {
        "encrypt": (size, lambda: write_sealed(sealed, plain), [sealed]),
        "decrypt": (size, lambda: read_sealed(sealed), []),
        "random 4 KiB reads": (RANDOM_READS * 4096, lambda: read_at_random(sealed, size), []),
        "encrypt, 2 threads": (2 * size, lambda: at_once(lambda path: write_sealed(path, plain), threads), threads),
        "decrypt, 2 threads": (2 * size, lambda: at_once(read_sealed, threads), []),
        "plain file, write": (size, lambda: write_plain(flat, plain), [flat]),
        "plain file, read": (size, lambda: read_plain(flat), []),
        "raw AES-128-GCM, 1 MiB": (size, lambda: raw_gcm(plain, out), []),
        "memory copy, 1 MiB": (size, lambda: copy_memory(plain, out), []),
    }
    seen: dict[str, list[float]] = {name: [] for name in lines}
    cpu: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(rounds):
        for name, (count, act, outputs) in lines.items():
            for path in outputs:
                path.unlink(missing_ok=True)
            start, start_cpu = time.perf_counter(), time.process_time()
            act()
            cpu[name].append(count / (time.process_time() - start_cpu) / 1e6)
            seen[name].append(count / (time.perf_counter() - start) / 1e6)
    return {
        name: {
            "median": statistics.median(found),
            "least": min(found),
            "best": max(found),
            "by CPU time": statistics.median(cpu[name]),
        }
        for name, found in seen.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, help="size of the file in MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the files lie")
    arguments = parser.parse_args()
    parent = arguments.folder if arguments.folder.is_dir() else None
    described = machine()
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        mb_per_s = measure(Path(folder), arguments.mib * 2**20, arguments.rounds)
    gcm = mb_per_s["raw AES-128-GCM, 1 MiB"]["by CPU time"]
    result = {
        "machine": described,
        "file_mib": arguments.mib,
        "rounds": arguments.rounds,
        "mb_per_s": {name: {key: round(value) for key, value in found.items()} for name, found in mb_per_s.items()},
        "share_of_raw_aes_gcm": {name: round(found["by CPU time"] / gcm, 3) for name, found in mb_per_s.items()},
        "random_read_us": round(4096 / mb_per_s["random 4 KiB reads"]["by CPU time"], 1),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    columns = ("median", "least", "best", "by CPU time")
    print(f"{'MB/s':<26}" + "".join(f"{column:>13}" for column in columns) + f"{'of raw GCM':>13}")
    for name, found in mb_per_s.items():
        print(
            f"{name:<26}" + "".join(f"{found[key]:>13.0f}" for key in columns) + f"{found['by CPU time'] / gcm:>13.1%}"
        )
    print(f"one random 4 KiB read: {result['random_read_us']} us; written to {RESULT}", file=sys.stderr)


if __name__ == "__main__":
    main()
