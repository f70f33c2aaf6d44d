"""Sessions, their errors and random feeds, on models of one node."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from onnxprune.errors import InputError, UsageError
from onnxprune.runtime import (
    ExecutionOptions,
    Session,
    TensorSpec,
    available_providers,
    random_feeds,
    version,
)
from onnxprune.runtime.messages import digest

FLOAT = TensorProto.FLOAT


def tensor(name, dtype=FLOAT, shape=("N", 3)):
    return make_tensor_value_info(name, dtype, shape)


def model(*nodes, inputs=None, outputs=None, weights=(), opset=17):
    """A model of these nodes that maps x to y."""
    inputs, outputs = inputs or [tensor("x")], outputs or [tensor("y", shape=None)]
    graph = make_graph(nodes, "graph", inputs, outputs, weights)
    return make_model(graph, ir_version=8, opset_imports=[make_opsetid("", opset)])


def identity(dtype):
    return model(
        make_node("Identity", ["x"], ["y"]), inputs=[tensor("x", dtype)], outputs=[tensor("y", dtype, None)]
    )


def matmul():
    """A node that fails when the symbolic sizes don't fit."""
    node = make_node("MatMul", ["x", "w"], ["y"], name="head")
    return model(node, inputs=[tensor("x", shape=("N", "K")), tensor("w", shape=("L", "M"))])


def open_(proto, **options):
    return Session(proto.SerializeToString(), ExecutionOptions(**options))


class TestSession:
    def test_specs(self):
        node = make_node("Flatten", ["x"], ["y"])
        session = open_(
            model(node, inputs=[tensor("x", shape=("N", 3, None))], outputs=[tensor("y", shape=(2, "M"))])
        )
        assert session.inputs == (TensorSpec("x", np.dtype(np.float32), ("N", 3, None)),)
        assert session.outputs == (TensorSpec("y", np.dtype(np.float32), (2, "M")),)

    def test_overridable_initializers_are_not_inputs(self):
        weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
        node = make_node("Add", ["x", "w"], ["y"])
        session = open_(model(node, inputs=[tensor("x"), tensor("w", shape=(3,))], weights=[weight]))
        assert [spec.name for spec in session.inputs] == ["x"]

    @pytest.mark.parametrize("optimize", [True, False])
    @pytest.mark.parametrize("threads", [0, 1])
    def test_runs(self, optimize, threads):
        session = open_(model(make_node("Neg", ["x"], ["y"])), optimize=optimize, threads=threads)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(session.run({"x": x})["y"], -x)

    def test_outputs_come_in_the_order_asked_for(self):
        nodes = make_node("Neg", ["x"], ["y"]), make_node("Abs", ["x"], ["z"])
        session = open_(model(*nodes, outputs=[tensor("y"), tensor("z")]))
        feeds = {"x": np.ones((1, 3), np.float32)}
        assert list(session.run(feeds)) == ["y", "z"]
        assert list(session.run(feeds, ["z", "y"])) == ["z", "y"]
        assert list(session.run(feeds, ["z"])) == ["z"]
        assert session.run(feeds, []) == {}

    def test_reads_weights_beside_the_model(self, tmp_path):
        weight = numpy_helper.from_array(np.full(3, 2, np.float32), "w")
        proto = model(make_node("Mul", ["x", "w"], ["y"]), weights=[weight])
        onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        feeds = {"x": np.ones((1, 3), np.float32)}
        for path in (tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
            np.testing.assert_array_equal(Session(path).run(feeds)["y"], [[2, 2, 2]])

        (tmp_path / "w.bin").unlink()
        with pytest.raises(InputError, match=r"m\.onnx: .*w\.bin"):
            Session(tmp_path / "m.onnx")

    @pytest.mark.parametrize(
        "dtype", [np.float16, np.float64, np.int64, np.uint8, np.bool_, ml_dtypes.bfloat16]
    )
    @pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
    def test_dtypes(self, dtype, shape):
        proto = identity(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        del proto.graph.input[0].type.tensor_type.shape.dim[len(shape) :]
        session = open_(proto)
        x = np.asarray(np.random.default_rng(0).integers(0, 2, shape)).astype(dtype)
        y = session.run({"x": x})["y"]
        assert session.inputs[0].dtype == session.outputs[0].dtype == y.dtype == x.dtype
        assert y.shape == shape
        np.testing.assert_array_equal(y, x)

    def test_a_foreign_dtype_beside_a_native_one(self):
        cast = make_node("Cast", ["x"], ["y"], to=FLOAT)
        session = open_(model(cast, inputs=[tensor("x", TensorProto.BFLOAT16)]))
        x = np.array([[1, 2, 3]], ml_dtypes.bfloat16)
        y = session.run({"x": x[:, ::-1]})["y"]
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, [[3, 2, 1]])

    def test_strings(self):
        session = open_(identity(TensorProto.STRING))
        assert session.inputs[0].dtype == object
        assert session.run({"x": np.array([["a", "b", "c"]])})["y"].tolist() == [["a", "b", "c"]]

    def test_sequences_are_boxed(self):
        sequence = onnx.helper.make_tensor_sequence_value_info("y", FLOAT, None)
        session = open_(model(make_node("SequenceConstruct", ["x", "x"], ["y"]), outputs=[sequence]))
        assert session.outputs == (TensorSpec("y", np.dtype(object), (), is_tensor=False),)
        y = session.run({"x": np.ones((1, 3), np.float32)})["y"]
        assert y.shape == ()
        assert len(y.item()) == 2

    def test_bind_runs_again_and_again(self):
        run = open_(model(make_node("Neg", ["x"], ["y"]))).bind({"x": np.ones((1, 3), np.float32)})
        assert [float(run()[0][0, 0]) for _ in range(3)] == [-1, -1, -1]

    def test_nothing_is_printed(self, capfd):
        with pytest.raises(InputError):
            open_(model(make_node("Frobnicate", ["x"], ["y"])))
        with pytest.raises(InputError):
            open_(matmul()).run({"x": np.ones((2, 3), np.float32), "w": np.ones((2, 3), np.float32)})
        assert capfd.readouterr() == ("", "")


class TestErrors:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "model: No graph was found in the protobuf"),
            (b"hello world", "model: Failed to load model because protobuf parsing failed"),
        ],
    )
    def test_not_a_model(self, content, message):
        with pytest.raises(InputError, match=f"^{message}$"):
            Session(content)

    def test_no_file(self, tmp_path):
        for path in (tmp_path, tmp_path / "none.onnx"):
            with pytest.raises(InputError, match="there is no such file"):
                Session(path)

    def test_opset_of_the_future(self):
        with pytest.raises(InputError, match=r"^model: opset 999 of domain ai\.onnx is newer than \d+"):
            open_(model(make_node("Neg", ["x"], ["y"]), opset=999))

    def test_invalid_graph(self):
        with pytest.raises(InputError, match=r"^model: Frobnicate 'f': No Op registered for Frobnicate"):
            open_(model(make_node("Frobnicate", ["x"], ["y"], name="f")))

    def test_failing_node(self):
        feeds = {"x": np.ones((2, 3), np.float32), "w": np.ones((2, 3), np.float32)}
        with pytest.raises(InputError, match=r"^model: MatMul 'head': MatMul dimension mismatch$"):
            open_(matmul()).run(feeds)

    @pytest.mark.parametrize(
        ("feeds", "message"),
        [
            ({}, "input 'x': no array is given for it"),
            ({"z": np.ones(3)}, "input 'z': the model has no such input; there are: x"),
            ({"x": np.ones((1, 3))}, "input 'x': the array has dtype float64, and the model needs float32"),
            (
                {"x": np.ones((1, 4), np.float32)},
                "model: Got invalid dimensions for input: x .*Got: 4 Expected: 3",
            ),
        ],
    )
    def test_feeds_that_do_not_fit(self, feeds, message):
        with pytest.raises(InputError, match=f"^{message}$"):
            open_(model(make_node("Neg", ["x"], ["y"]))).run(feeds)

    def test_unknown_output(self):
        with pytest.raises(InputError, match=r"^output 'z': the model has no such output; there are: y$"):
            open_(model(make_node("Neg", ["x"], ["y"]))).run({"x": np.ones((1, 3), np.float32)}, ["z"])

    def test_unknown_provider(self):
        with pytest.raises(
            UsageError, match=r"'TeapotExecutionProvider' here; there are: .*CPUExecutionProvider"
        ):
            open_(model(make_node("Neg", ["x"], ["y"])), provider="TeapotExecutionProvider")


SOURCE = "/onnxruntime_src/onnxruntime/core"
FAILED = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running"


@pytest.mark.parametrize(
    ("message", "node", "reason"),
    [
        (
            f"{FAILED} Reshape node. Name:'flat' Status Message: {SOURCE}/providers/cpu/reshape_helper.h:91 "
            "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
            "input_shape_size == size was false. The input tensor cannot be reshaped. Input shape:{2,3}\n",
            "Reshape 'flat'",
            "The input tensor cannot be reshaped. Input shape:{2,3}",
        ),
        (
            f"{FAILED} If node. Name:'if' Status Message: Non-zero status code returned while running "
            "MatMul node. Name:'' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch",
            "unnamed MatMul",
            "MatMul dimension mismatch",
        ),
        (
            f"[ONNXRuntimeError] : 1 : FAIL : {SOURCE}/x.cc:5 void f(const std::function<void(int)>&)"
            "::<lambda(int, bool)> out of (virtual) memory.\nStacktrace:\nframe 1",
            None,
            "out of (virtual) memory",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Det(11) node "
            "with name 'd'",
            "Det 'd'",
            "Could not find an implementation",
        ),
        ("something unheard-of", None, "something unheard-of"),
        ("", None, "unknown failure in ONNX Runtime"),
    ],
)
def test_messages_shrink_to_what_tells(message, node, reason):
    assert digest(message) == (node, reason)


class TestRandomFeeds:
    @staticmethod
    def spec(name, dtype, *shape):
        return TensorSpec(name, np.dtype(dtype), shape)

    def draw(self, *specs, seed=0, **options):
        return random_feeds(specs, np.random.default_rng(seed), **options)

    def test_same_name_same_size(self):
        image = self.spec("image", np.float32, "batch", 3, "side", "side")
        mask = self.spec("mask", np.bool_, "batch", "side", None)
        other = self.spec("other", np.float32, "side", None)
        shapes = {name: array.shape for name, array in self.draw(image, mask, other).items()}
        assert shapes == {"image": (1, 3, 16, 16), "mask": (1, 16, 16), "other": (16, 16)}

        feeds = self.draw(image, mask, dims={"batch": 2, "side": 5}, default_dim=7)
        assert {name: array.shape for name, array in feeds.items()} == {
            "image": (2, 3, 5, 5),
            "mask": (2, 5, 7),
        }

    def test_dims_are_left_alone(self):
        dims = {"N": 2}
        self.draw(self.spec("x", np.float32, "N", "M"), dims=dims)
        assert dims == {"N": 2}

    @pytest.mark.parametrize(
        "dtype", [np.float16, np.float64, np.int8, np.int64, np.uint8, bool, ml_dtypes.bfloat16]
    )
    def test_values(self, dtype):
        x = self.draw(self.spec("x", dtype, 1000))["x"]
        assert x.dtype == np.dtype(dtype)
        values = x.astype(float)
        if x.dtype == np.uint8:
            assert values.max() > 200
        elif x.dtype.kind in "biu":
            assert set(values) == {0, 1}
        else:
            assert abs(values.mean()) < 0.2
            assert abs(values.std() - 1) < 0.1

    def test_the_seed_decides(self):
        spec = self.spec("x", np.float32, 8)
        np.testing.assert_array_equal(self.draw(spec)["x"], self.draw(spec)["x"])
        assert (self.draw(spec)["x"] != self.draw(spec, seed=1)["x"]).any()

    def test_strings_are_letters(self):
        (texts,) = self.draw(self.spec("text", object, 1, 4)).values()
        assert texts.shape == (1, 4)
        assert all(len(text) == 1 for text in texts.flat)

    def test_no_sequences(self):
        spec = TensorSpec("list", np.dtype(object), (), is_tensor=False)
        with pytest.raises(
            InputError, match=r"^input 'list': can't draw random values of its type; give samples$"
        ):
            self.draw(spec)

    def test_none_larger_than_memory(self):
        with pytest.raises(InputError, match=r"^input 'x': an array of shape \(1, 2147483647, 9999\) takes"):
            self.draw(self.spec("x", np.float32, 1, 2**31 - 1, 9999))


def test_the_installation():
    assert version()[0].isdigit()
    assert "CPUExecutionProvider" in available_providers()
