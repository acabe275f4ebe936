"""Engines: right answers, models from memory only, bad files refused."""

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, StrongroomError
from strongroom.serving import memory_files
from strongroom.serving.engines import CLASSIFY, DEFAULT_SIGNATURE, REGRESS, Engine, EngineMaker
from strongroom.serving.engines import onnx as onnx_engine
from strongroom.serving.engines.identity import IdentityMaker
from strongroom.serving.engines.onnx import OnnxMaker
from strongroom.serving.engines.onnx_file import check_self_contained
from strongroom.serving.engines.openvino import OpenVinoMaker
from strongroom.serving.engines.ubjson import check_ubjson
from strongroom.serving.engines.xgboost import XGBoostMaker
from strongroom.serving.engines.xgboost_call import DensePredictor, fast_predictor
from strongroom.serving.engines.xgboost_few_rows import FEW_ROWS, FewRowsPredictor, few_rows_predictor
from strongroom.serving.status import InvalidRequest

ROWS = np.array([[1, 2, 3], [-1, 0.5, 2]], dtype=np.float32)
WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


class Files:
    """Model files of a test."""

    def __init__(self, **content: bytes) -> None:
        self._content = {name.replace("__", "/").replace("_dot_", "."): raw for name, raw in content.items()}
        self.names = frozenset(self._content)

    def read(self, name: str) -> bytes:
        return self._content[name]


def run(engine: Engine, rows: Any = ROWS) -> Any:
    signature = engine.signatures[DEFAULT_SIGNATURE]
    (name,) = signature.inputs
    (answer,) = engine.run(DEFAULT_SIGNATURE, {name: rows}, tuple(signature.outputs)).values()
    return answer


def onnx_model(external: bool = False) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    weights = helper.make_tensor("w", kinds.FLOAT, [3, 2], WEIGHTS.tobytes(), raw=True)
    if external:
        weights.ClearField("raw_data")
        weights.data_location = kinds.EXTERNAL
        weights.external_data.add(key="location", value="weights.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, ["rows", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    raw: bytes = model.SerializeToString()
    return raw


def saved_model(signature: str = "serving_default", tag: str = "serve") -> bytes:
    from strongroom.serving.tensors.tensor_proto import fill_tensor
    from strongroom.serving.wire.saved_model import SavedModel

    saved = SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append(tag)
    meta.graph_def.versions.producer = 1087
    x = meta.graph_def.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = 1
    for size in (-1, 3):
        x.attr["shape"].shape.dim.add(size=size)
    w = meta.graph_def.node.add(name="w", op="Const")
    w.attr["dtype"].type = 1
    fill_tensor(w.attr["value"].tensor, WEIGHTS)
    y = meta.graph_def.node.add(name="y", op="MatMul", input=["x", "w"])
    y.attr["T"].type = 1
    described = meta.signature_def[signature]
    described.method_name = "tensorflow/serving/predict"
    for side, alias, tensor in ((described.inputs, "rows", "x:0"), (described.outputs, "scores", "y:0")):
        side[alias].name, side[alias].dtype = tensor, 1
    raw: bytes = saved.SerializeToString()
    return raw


def test_xgboost_agrees_with_the_library(booster: Any) -> None:
    engine = XGBoostMaker().load(Files(model_dot_ubj=bytes(booster.save_raw("ubj"))))
    rows = np.random.default_rng(1).random((50, 4), dtype=np.float32)
    xgboost = pytest.importorskip("xgboost")
    expected = booster.predict(xgboost.DMatrix(rows, feature_names=booster.feature_names))
    assert run(engine, rows) == pytest.approx(expected, abs=1e-6)
    columns = {f"f{i}": rows[:, i] for i in range(4)}
    scores = engine.run("classification", columns, ("scores",))["scores"]
    assert scores == pytest.approx(np.stack([1 - expected, expected], axis=1), abs=1e-6)
    assert engine.signatures["classification"].method == CLASSIFY


@pytest.mark.parametrize(
    ("objective", "signature", "method", "shape"),
    [
        ("reg:squarederror", "regression", REGRESS, (None,)),
        ("multi:softprob", "classification", CLASSIFY, (None, 3)),
    ],
)
def test_xgboost_signatures(objective: str, signature: str, method: str, shape: Any) -> None:
    xgboost = pytest.importorskip("xgboost")
    settings = {"objective": objective} | ({"num_class": 3} if "multi" in objective else {})
    data = xgboost.DMatrix(np.random.default_rng(0).random((30, 3)), label=np.arange(30) % 3)
    raw = bytes(xgboost.train(settings, data, 3).save_raw("ubj"))
    engine = XGBoostMaker().load(Files(model_dot_ubj=raw))
    assert engine.signatures[signature].method == method
    assert engine.signatures[DEFAULT_SIGNATURE].outputs["outputs"].shape == shape
    assert run(engine).shape == (2, *shape[1:])


def test_direct_call_is_used_and_agrees_on_many_rows_and_threads(booster: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    predict = fast_predictor(booster, 4)
    assert isinstance(predict, DensePredictor)
    rows = np.random.default_rng(2).standard_normal((400, 4), dtype=np.float32)
    rows[::7, 1] = np.nan
    expected = booster.inplace_predict(rows, validate_features=False)
    assert np.array_equal(predict(rows), expected)
    assert np.array_equal(predict(rows[::2]), expected[::2])  # not contiguous
    raw = b"x" + rows[:3].tobytes()
    assert np.array_equal(predict(np.frombuffer(raw, "<f4", 12, 1).reshape(3, 4)), expected[:3])  # not aligned
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda at: predict(rows[at : at + 1]), range(400)))
    assert np.array_equal(np.concatenate(parts), expected)


def test_another_xgboost_falls_back_to_the_package(booster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.ones((2, 4), dtype=np.float32)

    def wrong(_predictor: Any, given: Any) -> Any:
        return np.zeros(len(given), dtype=np.float32)

    monkeypatch.setattr(DensePredictor, "__call__", wrong)
    predict = fast_predictor(booster, 4)
    assert not isinstance(predict, DensePredictor)
    assert np.array_equal(predict(rows), booster.inplace_predict(rows, validate_features=False))


OBJECTIVES: dict[str, dict[str, Any]] = {
    "binary:logistic": {},
    "reg:logistic": {"gamma": 0.5},
    "reg:squarederror": {},
    "reg:absoluteerror": {},
    "reg:pseudohubererror": {},
    "multi:softprob": {"num_class": 3},
}


def trained(settings: dict[str, Any]) -> Any:
    xgboost = pytest.importorskip("xgboost")
    random = np.random.default_rng(5)
    rows = random.standard_normal((400, 4), dtype=np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    target = np.digitize(np.nan_to_num(rows[:, 0] + rows[:, 1]), [0, 1])
    target = target if "num_class" in settings else np.minimum(target, 1)
    return xgboost.train({"max_depth": 5, "nthread": 1, **settings}, xgboost.DMatrix(rows, label=target), 20)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_few_rows_take_the_shorter_way_and_agree(objective: str) -> None:
    pytest.importorskip("onnxruntime")
    model = trained({"objective": objective, **OBJECTIVES[objective]})
    predict = few_rows_predictor(model, 4, fast_predictor(model, 4))
    assert isinstance(predict, FewRowsPredictor)
    rows = np.random.default_rng(6).standard_normal((FEW_ROWS, 4), dtype=np.float32) * 3
    rows[::3, 2] = np.nan
    expected = model.inplace_predict(rows, validate_features=False)
    for count in (1, FEW_ROWS):
        found = predict(rows[:count])
        assert found.shape == expected[:count].shape
        assert found.dtype == np.float32
        assert found == pytest.approx(expected[:count], rel=1e-5, abs=1e-6)
    assert np.array_equal(predict(np.tile(rows, (3, 1))), np.tile(expected, (3,) + (1,) * (expected.ndim - 1)))


def test_far_margins_neither_overflow_nor_warn() -> None:
    pytest.importorskip("onnxruntime")
    model = trained({"objective": "binary:logistic", "eta": 50, "min_child_weight": 0, "lambda": 0})
    predict = few_rows_predictor(model, 4, fast_predictor(model, 4))
    rows = np.linspace(-9, 9, 4 * FEW_ROWS, dtype=np.float32).reshape(FEW_ROWS, 4)
    assert predict(rows) == pytest.approx(model.inplace_predict(rows, validate_features=False), abs=1e-6)


@pytest.mark.parametrize("settings", [{"booster": "dart"}, {"objective": "count:poisson"}])
def test_trees_of_another_kind_stay_with_xgboost(settings: dict[str, Any]) -> None:
    model = trained(settings)
    many = fast_predictor(model, 4)
    assert few_rows_predictor(model, 4, many) is many


def test_a_shorter_way_that_disagrees_is_not_taken(booster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    many = fast_predictor(booster, 4)
    true = FewRowsPredictor.__call__
    monkeypatch.setattr(FewRowsPredictor, "__call__", lambda self, rows: true(self, rows) + np.float32(2e-4))
    assert few_rows_predictor(booster, 4, many) is many


def test_without_onnx_runtime_xgboost_predicts(booster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    many = fast_predictor(booster, 4)
    assert few_rows_predictor(booster, 4, many) is many


@pytest.mark.parametrize("raw", [b"", b"garbage", b"{" * 100, b"\0" * 50])
def test_xgboost_refuses_garbage(raw: bytes) -> None:
    pytest.importorskip("xgboost")
    with pytest.raises(FormatError):
        XGBoostMaker().load(Files(model_dot_ubj=raw))


@pytest.mark.parametrize("maker", [OnnxMaker(threads=1), OpenVinoMaker(threads=1)])
def test_onnx(maker: EngineMaker) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[maker.name])
    engine = maker.load(Files(model_dot_onnx=onnx_model()))
    assert run(engine) == pytest.approx(ROWS @ WEIGHTS, abs=1e-5)
    spec = engine.signatures[DEFAULT_SIGNATURE].inputs["x"]
    assert (spec.dtype.name, spec.shape) == ("DT_FLOAT", (None, 3))
    assert run(engine, ROWS[:1]).shape == (1, 2)
    engine.close()


@pytest.mark.parametrize(("threads", "concurrency", "each"), [(4, 1, 4), (4, 2, 2), (4, 3, 1), (2, 8, 1)])
def test_onnx_divides_its_threads_among_predictions(
    monkeypatch: pytest.MonkeyPatch, threads: int, concurrency: int, each: int
) -> None:
    opened = Mock()
    monkeypatch.setattr(onnx_engine, "open_session", opened)
    monkeypatch.setattr(onnx_engine, "OnnxEngine", Mock())
    raw = onnx_model()
    OnnxMaker(threads).load(Files(model_dot_onnx=raw), concurrency)
    opened.assert_called_once_with(raw, each)


@pytest.mark.parametrize("maker", [OnnxMaker(), OpenVinoMaker()])
@pytest.mark.parametrize("raw", [b"", b"garbage", b"\x08\x09"])
def test_onnx_refuses_garbage(maker: EngineMaker, raw: bytes) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[maker.name])
    with pytest.raises(FormatError):
        maker.load(Files(model_dot_onnx=raw))


@pytest.mark.parametrize("maker", [OnnxMaker(), OpenVinoMaker()])
def test_refuses_weights_from_a_file_beside_it(
    maker: EngineMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model must not make the server read files that nobody sealed: not even from the working directory."""
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[maker.name])
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="other files"):
        maker.load(Files(model_dot_onnx=onnx_model(external=True)))


def test_finds_external_weights_in_subgraphs() -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    outer = onnx.ModelProto.FromString(onnx_model())
    inner = onnx.ModelProto.FromString(onnx_model(external=True)).graph
    outer.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))
    with pytest.raises(FormatError, match="other files"):
        check_self_contained(outer.SerializeToString())


def test_openvino_saved_model() -> None:
    pytest.importorskip("openvino")
    engine = OpenVinoMaker(threads=1).load(Files(saved_model_dot_pb=saved_model()))
    signature = engine.signatures[DEFAULT_SIGNATURE]
    assert (list(signature.inputs), list(signature.outputs)) == (["rows"], ["scores"])
    assert run(engine) == pytest.approx(ROWS @ WEIGHTS, abs=1e-5)


def test_openvino_ir(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.Core().read_model(onnx_model()), tmp_path / "model.xml", compress_to_fp16=False)
    files = Files(
        model_dot_xml=(tmp_path / "model.xml").read_bytes(), model_dot_bin=(tmp_path / "model.bin").read_bytes()
    )
    assert OpenVinoMaker().recognises(files.names)
    assert run(OpenVinoMaker(threads=1).load(files)) == pytest.approx(ROWS @ WEIGHTS, abs=1e-5)


@pytest.mark.parametrize(
    "raw",
    [b"", b"garbage", saved_model(signature="other"), saved_model(tag="train"), saved_model()[:-40]],
    ids=["empty", "garbage", "no default signature", "not for serving", "cut"],
)
def test_openvino_refuses_saved_models(raw: bytes) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(FormatError):
        OpenVinoMaker().load(Files(saved_model_dot_pb=raw))


def test_bf16_is_a_choice() -> None:
    pytest.importorskip("openvino")
    engine = OpenVinoMaker(threads=1, precision="bf16").load(Files(model_dot_onnx=onnx_model()))
    assert run(engine) == pytest.approx(ROWS @ WEIGHTS, rel=2e-2, abs=1e-2)


def test_engine_answers_several_callers_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    pytest.importorskip("openvino")
    engine: Any = OpenVinoMaker(threads=1).load(Files(model_dot_onnx=onnx_model()), 2)
    assert engine._requests.qsize() == 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: (i, run(engine, ROWS * np.float32(i))), range(200)))
    assert all(answer == pytest.approx(ROWS @ WEIGHTS * i, rel=1e-5) for i, answer in answers)


@pytest.mark.parametrize(
    "text",
    ["", "tensors = 1", "[tensors]\nx = 1", "[tensors]\nx = {datatype='FP99', shape=[1]}", "\udcff", "[tensors]\nx={}"],
)
def test_identity_refuses_other_files(text: str) -> None:
    with pytest.raises(FormatError):
        IdentityMaker().load(Files(identity_dot_toml=text.encode("utf-8", "surrogateescape")))


def test_rows_of_infinity_are_refused(booster: Any) -> None:
    engine = XGBoostMaker().load(Files(model_dot_ubj=bytes(booster.save_raw("ubj"))))
    with pytest.raises(InvalidRequest):
        run(engine, np.full((1, 4), np.inf, np.float32))


def test_memory_folder_has_nothing_on_a_disk() -> None:
    with memory_files.memory_folder({"a": b"secret", "sub/b": b"more"}) as folder:
        assert (folder / "a").read_bytes() == b"secret" and (folder / "sub/b").read_bytes() == b"more"
        assert all(path.is_symlink() for path in folder.rglob("*") if not path.is_dir())
        assert (folder / "a").readlink().is_relative_to("/proc/self/fd")
        kept = (folder / "a").readlink()
    assert not folder.exists() and not Path(kept).exists()


def test_without_memory_files_only_a_tmpfs_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_files, "_memfd_works", lambda: False)
    monkeypatch.setattr(memory_files, "PRIVATE_TMPFS", tmp_path)
    with pytest.raises(ConfigurationError, match="tmpfs"), memory_files.memory_folder({"a": b"x"}):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no tmpfs here")
def test_tmpfs_is_used_and_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_files, "_memfd_works", lambda: False)
    with memory_files.memory_folder({"a": b"x"}) as folder:
        assert folder.is_relative_to("/dev/shm") and folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
def test_memory_folder_names_cannot_climb(name: str) -> None:
    with pytest.raises(StrongroomError), memory_files.memory_folder({name: b""}):
        pass


def test_ubjson_check_accepts_what_xgboost_writes_and_refuses_every_cut(booster: Any) -> None:
    raw = bytes(booster.save_raw("ubj"))
    check_ubjson(raw)
    for size in range(0, len(raw), 37):
        with pytest.raises(FormatError):
            check_ubjson(raw[:size])
    with pytest.raises(FormatError):
        check_ubjson(raw + b"x")


@pytest.mark.parametrize(
    "raw",
    [
        b"{L" + b"\x7f" * 8,
        b"{i\x01a[$d#L" + b"\x7f" * 8 + b"}",
        b"{i\x01a[$Z#l\x7f\xff\xff\xff}",
        b"{i\x01a[#l\x7f\xff\xff\xff}",
        b"{i\xffa}",
        b"{i\x01ax}",
        b"{i\x01a[$d]}",
        b"[]",
        b"{" + b"i\x01a{" * 5000,
        b"{" + b"i\x01a[" * 5000,
    ],
)
def test_ubjson_check_refuses(raw: bytes) -> None:
    with pytest.raises(FormatError):
        check_ubjson(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_ubjson_check_ends_on_any_bytes(raw: bytes) -> None:
    try:
        check_ubjson(b"{" + raw)
    except FormatError:
        pass
