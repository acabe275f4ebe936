"""Opens sealed models and ssl.cfg into a folder that is memory of this pod, for a server that knows no seals."""

import os
import shutil
import sys
from pathlib import Path

import strongroom

storage, target = Path(os.environ["STRONGROOM_STORAGE"]), Path(sys.argv[1])
os.umask(0o077)
with strongroom.enter() as room:
    for folder in ("models", "config"):
        for path in sorted((storage / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(storage)
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                with room.open(name.as_posix()) as sealed, (target / name).open("xb") as opened:
                    shutil.copyfileobj(sealed, opened)
