"""Make ResNet-50 v1.5 (fp32) as a frozen SavedModel with random weights, without TensorFlow and without a network.

    python examples/serving/make_resnet50.py models/resnet50-v15-fp32/1

The signature is that of the model the Gramine examples serve: ``input`` [-1, 224, 224, 3] to ``predict`` [-1, 1001].
The graph: He et al., "Deep Residual Learning for Image Recognition", table 1, with the stride of each block in its
3x3 convolution (v1.5) and batch normalisation as TensorFlow's FusedBatchNormV3. The same seed gives the same bytes.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from strongroom.serving.tensors.tensor_proto import fill_tensor
from strongroom.serving.wire.saved_model import SavedModel

CLASSES = 1001
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
EPSILON = 1e-5
DT_FLOAT, DT_INT32 = 1, 3


class Graph:
    """Nodes of a GraphDef, added one by one; every method returns the name of its node."""

    def __init__(self, graph_def: Any, seed: int) -> None:
        self._graph = graph_def
        self._random = np.random.default_rng(seed)
        self._names: set[str] = set()

    def node(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; attributes take the field their name or type asks for."""
        node = self._graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            target = node.attr[key]
            if key in {"T", "dtype", "U", "Tshape", "Tidx", "Tpaddings"}:
                target.type = value
            elif isinstance(value, bool):
                target.b = value
            elif isinstance(value, float):
                target.f = value
            elif isinstance(value, bytes):
                target.s = value
            elif isinstance(value, list):
                target.list.i.extend(value)
        return name

    def const(self, name: str, value: Any) -> str:
        """A constant tensor, float32 or int32."""
        array = np.asarray(value)
        self.node(name, "Const", dtype=DT_FLOAT if array.dtype == np.float32 else DT_INT32)
        fill_tensor(self._graph.node[-1].attr["value"].tensor, array)
        return name

    def convolve(self, name: str, source: str, channels: tuple[int, int], size: int, stride: int) -> str:
        """A convolution with random weights (He initialisation), NHWC, no bias."""
        into, out = channels
        shape = (size, size, into, out)
        scale = np.float32(np.sqrt(2 / (size * size * into)))
        weights = self.const(f"{name}/kernel", self._random.standard_normal(shape, dtype=np.float32) * scale)
        settings = {"strides": [1, stride, stride, 1], "dilations": [1, 1, 1, 1], "data_format": b"NHWC"}
        return self.node(name, "Conv2D", source, weights, T=DT_FLOAT, padding=b"SAME", **settings)

    def normalize(self, name: str, source: str, channels: int, gain: float) -> str:
        """Batch normalisation with random statistics."""
        uniform = self._random.random((3, channels), dtype=np.float32)
        parts = {
            "gamma": (uniform[0] * 0.2 + 0.9) * np.float32(gain),
            "beta": uniform[1] * 0.2 - 0.1,
            "mean": uniform[2] * 0.2 - 0.1,
            "variance": np.ones(channels, np.float32),
        }
        names = [self.const(f"{name}/{part}", value.astype(np.float32)) for part, value in parts.items()]
        settings = {"epsilon": EPSILON, "is_training": False, "data_format": b"NHWC"}
        return self.node(name, "FusedBatchNormV3", source, *names, T=DT_FLOAT, U=DT_FLOAT, **settings)

    def relu(self, name: str, source: str) -> str:
        """max(x, 0)."""
        return self.node(name, "Relu", source, T=DT_FLOAT)

    def bottleneck(self, name: str, source: str, into: int, width: int, stride: int) -> str:
        """1x1, 3x3 with the stride, 1x1, and the shortcut around them."""
        out = 4 * width
        shortcut = source
        if into != out:
            projected = self.convolve(f"{name}/project", source, (into, out), 1, stride)
            shortcut = self.normalize(f"{name}/project/norm", projected, out, 1.0)
        first = self.convolve(f"{name}/a", source, (into, width), 1, 1)
        first = self.relu(f"{name}/a/relu", self.normalize(f"{name}/a/norm", first, width, 1.0))
        second = self.convolve(f"{name}/b", first, (width, width), 3, stride)
        second = self.relu(f"{name}/b/relu", self.normalize(f"{name}/b/norm", second, width, 1.0))
        third = self.convolve(f"{name}/c", second, (width, out), 1, 1)
        third = self.normalize(f"{name}/c/norm", third, out, 0.2)
        return self.relu(f"{name}/relu", self.node(f"{name}/add", "AddV2", third, shortcut, T=DT_FLOAT))

    def network(self, image_size: int) -> None:
        """The whole of ResNet-50."""
        self.node("input", "Placeholder", dtype=DT_FLOAT)
        self._graph.node[-1].attr["shape"].shape.dim.extend([])
        for size in (-1, image_size, image_size, 3):
            self._graph.node[-1].attr["shape"].shape.dim.add(size=size)
        flow = self.convolve("stem", "input", (3, 64), 7, 2)
        flow = self.relu("stem/relu", self.normalize("stem/norm", flow, 64, 1.0))
        pool = {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "data_format": b"NHWC"}
        flow = self.node("stem/pool", "MaxPool", flow, T=DT_FLOAT, padding=b"SAME", **pool)
        into = 64
        for stage, (blocks, width, stride) in enumerate(STAGES, start=1):
            for block in range(blocks):
                name = f"stage{stage}/block{block + 1}"
                flow = self.bottleneck(name, flow, into, width, stride if block == 0 else 1)
                into = 4 * width
        axes = self.const("pool/axes", np.array([1, 2], dtype=np.int32))
        flow = self.node("pool", "Mean", flow, axes, T=DT_FLOAT, Tidx=DT_INT32, keep_dims=False)
        scale = np.float32(np.sqrt(1 / into))
        kernel = self.const("dense/kernel", self._random.standard_normal((into, CLASSES), dtype=np.float32) * scale)
        flow = self.node("dense", "MatMul", flow, kernel, T=DT_FLOAT, transpose_a=False, transpose_b=False)
        bias = self.const("dense/bias", np.zeros(CLASSES, np.float32))
        flow = self.node("logits", "BiasAdd", flow, bias, T=DT_FLOAT, data_format=b"NHWC")
        self.node("predict", "Softmax", flow, T=DT_FLOAT)


def make_resnet50(seed: int = 0, image_size: int = 224) -> bytes:
    """The bytes of saved_model.pb: about 102 MB."""
    saved = SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.versions.producer = 1087
    Graph(meta.graph_def, seed).network(image_size)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for side, name, shape in (
        (signature.inputs, "input", (-1, image_size, image_size, 3)),
        (signature.outputs, "predict", (-1, CLASSES)),
    ):
        side[name].name = f"{name}:0"
        side[name].dtype = DT_FLOAT
        for size in shape:
            side[name].tensor_shape.dim.add(size=size)
    raw: bytes = saved.SerializeToString(deterministic=True)
    return raw


def main() -> None:
    parser = argparse.ArgumentParser(description="Make ResNet-50 v1.5 with random weights as a frozen SavedModel.")
    parser.add_argument("folder", type=Path, help="version folder, e.g. models/resnet50-v15-fp32/1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    target = arguments.folder / "saved_model.pb"
    raw = make_resnet50(arguments.seed)
    with target.open("xb") as file:
        file.write(raw)
    print(f"wrote {target}, {len(raw) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
