"""The example scripts do what the guide says."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples/serving"


def test_resnet_maker_gives_the_same_bytes_for_the_same_seed_and_never_overwrites(tmp_path: Path) -> None:
    from strongroom.serving.wire.saved_model import SavedModelOutline

    make = runpy.run_path(str(FOLDER / "make_resnet50.py"))["make_resnet50"]
    raw = make(seed=1, image_size=32)
    assert raw == make(seed=1, image_size=32) != make(seed=2, image_size=32)
    (meta,) = SavedModelOutline.FromString(raw).meta_graphs
    signature = meta.signature_def["serving_default"]
    assert [dim.size for dim in signature.inputs["input"].tensor_shape.dim] == [-1, 32, 32, 3]
    assert [dim.size for dim in signature.outputs["predict"].tensor_shape.dim] == [-1, 1001]
    assert len(meta.graph_def) > 25_000_000 * 4
    (tmp_path / "saved_model.pb").write_bytes(b"precious")
    done = subprocess.run([sys.executable, FOLDER / "make_resnet50.py", tmp_path], capture_output=True, check=False)
    assert done.returncode != 0 and (tmp_path / "saved_model.pb").read_bytes() == b"precious"


@pytest.mark.slow
def test_dummy_image_client(serve: Any, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from strongroom.serving.engines.openvino import OpenVinoMaker
    from strongroom.serving.models.policy import ModelSettings

    make = runpy.run_path(str(FOLDER / "make_resnet50.py"))["make_resnet50"]
    (tmp_path / "resnet/1").mkdir(parents=True)
    (tmp_path / "resnet/1/saved_model.pb").write_bytes(make())
    served = serve([ModelSettings("resnet50-v15-fp32", "resnet")], tmp_path, [OpenVinoMaker()])
    command = [sys.executable, str(FOLDER / "dummy_image_client.py"), f"127.0.0.1:{served.server.grpc_port}"]
    command += ["--plaintext", "--count", "2", "--batch", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert len(re.findall(r"classes \[\d+, \d+\], [\d.]+ ms", done.stdout)) == 2
    rows = np.zeros((1, 224, 224, 3), np.float32).tolist()
    status, body, _ = served.http("/v1/models/resnet50-v15-fp32:predict", {"instances": rows})
    assert status == 200 and abs(sum(body["predictions"][0]) - 1) < 1e-4
