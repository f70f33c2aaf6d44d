"""A model's form: what is refused at the door ONNX Runtime refuses, too; what it runs comes in, in order."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import run
from onnx import TensorProto, helper, numpy_helper
from projects import network

from onnxprune.errors import InputError
from onnxprune.graph import load, save
from onnxprune.graph.functions import LIMIT
from onnxprune.graph.signatures import _MICROSOFT


@dataclass
class Parts:
    """What damages work on."""

    model: onnx.ModelProto

    @property
    def graph(self):
        return self.model.graph

    @property
    def conv(self):
        return self.graph.node[0]

    @property
    def relu(self):
        return self.graph.node[1]

    @property
    def weight(self):
        return self.graph.initializer[0]

    def attribute(self, name, value):
        self.conv.attribute.append(helper.make_attribute(name, value))


def twice(values):
    values.append(copy.deepcopy(values[0]))


def reference(p):
    p.attribute("group", 1)
    p.conv.attribute[-1].ref_attr_name = "g"


def cycle(p):
    p.conv.input[0] = "r"


def dims(p, *values):
    p.weight.dims[:] = values


def body(name, nodes, output):
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    )


def branch(p, then, outputs=("y0",)):
    """An If in the place of the last node, with `then` as one of its branches."""
    other = body("other", [helper.make_node("Conv", ["r", "w2"], ["o"])], "o")
    p.graph.initializer.append(numpy_helper.from_array(np.array(True), "cond"))
    p.graph.node[2].CopyFrom(
        helper.make_node("If", ["cond"], outputs, "if", then_branch=then, else_branch=other)
    )


def unsorted_branch(p):
    nodes = [
        helper.make_node("Relu", ["c1"], ["b"], "late"),
        helper.make_node("Conv", ["r", "w2"], ["c1"], "early"),
    ]
    branch(p, body("then", nodes, "b"))


def shadowing_branch(p):
    branch(p, body("then", [helper.make_node("Conv", ["r", "w2"], ["c"], "inner")], "c"))


def open_branch(p):
    branch(p, body("then", [helper.make_node("Conv", ["r", "w2"], ["b"], "inner")], "nowhere"))


def wide_branch(p):
    then = body("then", [helper.make_node("Conv", ["r", "w2"], ["b"], "inner")], "b")
    then.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    branch(p, then)


REFUSED = {
    "operator": (lambda p: p.relu.ClearField("op_type"), "unknown operator 'relu': has no operator"),
    "dangling input": (lambda p: p.relu.input.__setitem__(0, "z"), "Relu 'relu': reads 'z', which nothing"),
    "dangling output": (lambda p: setattr(p.graph.output[0], "name", "z"), "nothing makes its output 'z'"),
    "unnamed output": (lambda p: p.graph.output.add(), "has an output without a name"),
    "unnamed input": (lambda p: p.graph.input.add(), "its input '' has no type"),
    "input twice": (lambda p: twice(p.graph.input), "lists the input 'x' twice"),
    "input without type": (lambda p: p.graph.input[0].ClearField("type"), "its input 'x' has no type"),
    "input of unknown elements": (
        lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 99),
        "'x' has an unknown type of elements (99)",
    ),
    "IR version": (lambda p: p.model.ClearField("ir_version"), "has no IR version"),
    "no inputs": (lambda p: p.conv.input.__delitem__(slice(1, None)), "has 1 input, and takes 2 to 3"),
    "an input too many": (lambda p: p.relu.input.append("c"), "Relu 'relu': has 2 inputs, and takes 1"),
    "empty input": (lambda p: p.conv.input.__setitem__(1, ""), "'conv1': has no input 1, which it needs"),
    "no outputs": (
        lambda p: p.graph.node.append(helper.make_node("Relu", ["c"], [], "idle")),
        "Relu 'idle': has no outputs",
    ),
    "an output too many": (
        lambda p: p.relu.output.append("more"),
        "Relu 'relu': has 2 outputs, and takes 1",
    ),
    "output twice": (
        lambda p: p.relu.output.__setitem__(0, "c"),
        "Relu 'relu': makes 'c', which something else makes already",
    ),
    "output that is a weight": (
        lambda p: p.relu.output.__setitem__(0, "w1"),
        "Relu 'relu': makes 'w1', which something else makes already",
    ),
    "cycle": (cycle, "Conv 'conv1': reads what is made from its own output: a cycle"),
    "attribute type": (lambda p: p.attribute("group", 1.0), "attribute 'group' is FLOAT, not INT"),
    "attribute twice": (lambda p: twice(p.conv.attribute), "Conv 'conv1': has attribute 'pads' twice"),
    "attribute of a function": (reference, "attribute 'group' refers to 'g' of a function, and is in none"),
    "attribute without type": (
        lambda p: p.conv.attribute[0].ClearField("type"),
        "Conv 'conv1': attribute 'pads' has no type that is known",
    ),
    "missing attribute": (lambda p: setattr(p.relu, "op_type", "Cast"), "has no attribute 'to', which it"),
    "no group": (lambda p: p.attribute("group", 0), "Conv 'conv1': attribute 'group' is 0"),
    "no stride": (lambda p: p.attribute("strides", [1, 0]), "Conv 'conv1': attribute 'strides' is 0"),
    "values missing": (
        lambda p: setattr(p.weight, "raw_data", p.weight.raw_data[:-4]),
        "tensor 'w1' holds 860 bytes, and float of shape (8, 3, 3, 3) has 864",
    ),
    "values too many": (
        lambda p: setattr(p.weight, "raw_data", p.weight.raw_data + b"1234"),
        "tensor 'w1' holds 868 bytes",
    ),
    "no values": (lambda p: p.weight.ClearField("raw_data"), "tensor 'w1' holds 0 values, and float"),
    "negative shape": (lambda p: dims(p, -8, 3, 3, 3), "tensor 'w1' has an impossible shape (-8, 3, 3, 3)"),
    "endless shape": (lambda p: dims(p, 2**62, 2**62), "has an impossible shape"),
    "unknown elements": (lambda p: setattr(p.weight, "data_type", 99), "'w1' has an unknown type"),
    "constant without value": (
        lambda p: p.graph.node.insert(0, helper.make_node("Constant", [], ["k"], "constant")),
        "Constant 'constant': has no value",
    ),
    "branch in disorder": (unsorted_branch, "Relu 'late': reads 'c1' before it is made"),
    "branch with names from around it": (shadowing_branch, "Conv 'inner': makes 'c', which something"),
    "branch without its output": (open_branch, "nothing makes its output 'nowhere'"),
    "branch with more outputs": (wide_branch, "If 'if': a body gives 2 values, and it has 1 outputs"),
}  # fmt: skip


def damaged(damage):
    model = network()
    damage(Parts(model))
    return model


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_onnx_runtime_refuses(name, tmp_path):
    damage, message = REFUSED[name]
    model = damaged(damage)
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError) as caught:
        load(tmp_path / "bad.onnx")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/bad.onnx: ")
    if name != "attribute of a function":  # ONNX Runtime takes the value that no such attribute should have
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            session(model).run(None, FEEDS)


def unsorted(p):
    nodes = [copy.deepcopy(n) for n in p.graph.node][::-1]
    del p.graph.node[:]
    p.graph.node.extend(nodes)


def early_branch(p):
    """An If before what its branches read."""
    branch(p, body("then", [helper.make_node("Conv", ["r", "w2"], ["b"], "inner")], "b"))
    unsorted(p)


def unnamed_weight(p):
    p.graph.initializer.append(copy.deepcopy(p.weight))
    p.graph.initializer[-1].name = ""


ACCEPTED = {
    "any order": unsorted,
    "any order around branches": early_branch,
    "a weight twice": lambda p: twice(p.graph.initializer),
    "a weight without a name": unnamed_weight,
    "an output twice": lambda p: twice(p.graph.output),
    "an input that is an output": lambda p: p.graph.output.append(p.graph.input[0]),
    "a weight that is an output": lambda p: p.graph.output.add(name="w1"),
    "no name": lambda p: p.graph.ClearField("name"),
    "an output without a type": lambda p: p.graph.output[0].ClearField("type"),
    "a wrong declared shape": lambda p: setattr(
        p.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 9
    ),
    "a description that is no text": lambda p: None,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_onnx_runtime_runs_comes_in(name, tmp_path):
    model = damaged(ACCEPTED[name])
    data = model.SerializeToString()
    if "description" in name:
        model.doc_string = "ABCD"
        data = model.SerializeToString().replace(b"ABCD", b"A\xe4\xffD")
    (tmp_path / "odd.onnx").write_bytes(data)
    graph = load(tmp_path / "odd.onnx")
    names = [name for tensor in graph.model.graph.initializer if (name := tensor.name)]
    assert len(names) == len(set(names)) == len(graph.model.graph.initializer)
    made = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        assert made.issuperset(node.inputs)
        made.update(node.outputs)
    for found, expected in zip(run(graph.model, FEEDS), session(model).run(None, FEEDS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_two_weights_with_one_name_none_is_taken(tmp_path):
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "w1"))
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(InputError, match="two initializers of the name 'w1' differ"):
        load(tmp_path / "bad.onnx")


@pytest.mark.parametrize("place", ["node", "output", "domain", "attribute"])
def test_names_that_are_no_text(place, tmp_path):
    model = network()
    node = model.graph.node[1]
    if place == "node":
        node.name = "ABCD"
    elif place == "output":
        node.output[0] = model.graph.node[2].input[0] = "ABCD"
    elif place == "domain":
        model.opset_import.append(helper.make_opsetid("ABCD", 1))
    else:
        node.attribute.append(helper.make_attribute("ABCD", 1))
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString().replace(b"ABCD", b"\x1b\xff\xfeD"))
    with pytest.raises(InputError, match=r"the \w+ '.*D' of a \w+ is not UTF-8") as caught:
        load(tmp_path / "bad.onnx")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------- local functions


def calling(bodies, opset=17):
    """A model that calls `f0`; bodies: function -> the functions that it calls, one after the other."""
    model = network(opset=opset)
    for name, calls in bodies.items():
        nodes = [
            helper.make_node(call, [f"a{k}"], [f"a{k + 1}"], domain="" if call == "Relu" else "own")
            for k, call in enumerate(calls)
        ]
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", name, ["a0"], [f"a{len(calls)}"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].CopyFrom(helper.make_node("f0", ["c"], ["r"], "call", domain="own"))
    return model


def chain(levels, calls):
    return calling({f"f{k}": [f"f{k + 1}"] * calls for k in range(levels)} | {f"f{levels}": ["Relu"]})


def test_functions_within_bounds_are_inlined(tmp_path):
    onnx.save(chain(10, 2), tmp_path / "f.onnx")
    assert [n.op for n in load(tmp_path / "f.onnx").nodes] == ["Conv", *["Relu"] * 1024, "Conv"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (calling({"f0": ["f0"]}), "local function 'own:f0': calls itself"),
        (calling({"f0": ["f1"], "f1": ["f2"], "f2": ["f1"]}), "local function 'own:f1': calls itself"),
        (chain(60, 2), f"its local functions expand to more than {LIMIT:,} nodes"),
        (chain(5000, 1), "has local functions in more than"),
    ],
    ids=["recursive", "recursive in turns", "doubling", "deep"],
)
def test_functions_without_end(model, message, tmp_path):
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "f.onnx")


# ---------------------------------------------------------------- what the tables say


def test_signatures_are_those_of_onnx_runtime():
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    there = {s.name: s for s in get_all_operator_schema() if s.domain == "com.microsoft"}
    for name, known in _MICROSOFT.items():
        schema = there[name]
        assert known.inputs == (schema.min_input, schema.max_input), name
        assert known.outputs == (schema.min_output, schema.max_output), name
        single = {i for i, formal in enumerate(schema.inputs) if str(formal.option).endswith("Single")}
        assert known.needed == single, name
        for attribute, kind in known.types.items():
            if attribute in schema.attributes:
                said = str(schema.attributes[attribute].type).rpartition(".")[2]
                assert onnx.AttributeProto.AttributeType.Name(kind) == said, (name, attribute)


def test_a_good_model_comes_back_as_it_was(tmp_path):
    onnx.save(network(), tmp_path / "good.onnx")
    save(load(tmp_path / "good.onnx"), tmp_path / "again.onnx")
    assert onnx.load(tmp_path / "again.onnx") == network()
