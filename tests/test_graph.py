"""Loading, editing and saving: what was not asked to change comes back as it was."""

from __future__ import annotations

import os
import re

import numpy as np
import onnx
import onnx.external_data_helper as external
import pytest
from nets import Net, run
from onnx import TensorProto, helper, numpy_helper

import onnxprune.graph
from onnxprune.errors import InputError
from onnxprune.graph import Edits, Graph, cut, external_files, infer, input_specs, load, make_node, save


def small(opset: int = 17) -> onnx.ModelProto:
    """Conv, Relu, Conv on a symbolic batch, with everything a model may carry beside its nodes."""
    n = Net("graph", opset=opset)
    x = n.input("batch", 3, 5, 3)
    y = n.conv(n.Relu(n.conv(x, 7)), 6)
    n.output(y)
    model = n.finished()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name, model.producer_version = "test", "1.2"
    model.model_version, model.domain, model.doc_string = 7, "org.example", "a model"
    helper.set_model_props(model, {"classes": "a,b", "stride": "32"})
    model.graph.doc_string = "a graph"
    model.graph.node[0].doc_string = "a node"
    return model


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small().SerializeToString())
    return path


class TestLoadAndSave:
    def test_nothing_changes(self, file, tmp_path):
        save(load(file), tmp_path / "copy.onnx")
        assert onnx.load(tmp_path / "copy.onnx") == onnx.load(file)

    def test_the_number_of_bytes_is_returned(self, file, tmp_path):
        out = tmp_path / "copy.onnx"
        assert save(load(file), out) == out.stat().st_size

    def test_the_same_graph_gives_the_same_bytes(self, file, tmp_path):
        for name in ("a", "b"):
            save(load(file), tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_a_saved_file_replaces_the_old_one_and_leaves_nothing_else(self, file, tmp_path):
        out = tmp_path / "out.onnx"
        out.write_bytes(b"old")
        save(load(file), out)
        assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "out.onnx"}
        assert onnx.load(out) == onnx.load(file)

    def test_permissions_are_those_of_any_new_file(self, file, tmp_path):
        (tmp_path / "plain").touch()
        save(load(file), tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_an_interrupted_write_leaves_the_old_file(self, file, tmp_path, monkeypatch):
        out = tmp_path / "out.onnx"
        out.write_bytes(b"old")

        def interrupt(handle):
            raise KeyboardInterrupt

        graph = load(file)
        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(graph, out)
        assert out.read_bytes() == b"old"
        assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "out.onnx"}

    def test_custom_operators_and_their_domain_stay(self, tmp_path):
        model = small()
        model.opset_import.append(helper.make_opsetid("org.example", 3))
        last = model.graph.output[0].name
        model.graph.node.append(
            helper.make_node("Secret", [last], ["hidden"], "secret", domain="org.example", key="value")
        )
        model.graph.output[0].name = "hidden"
        (tmp_path / "custom.onnx").write_bytes(model.SerializeToString())
        graph = load(tmp_path / "custom.onnx")
        assert graph.nodes[-1].op == "org.example:Secret"
        assert graph.opset("org.example") == 3
        save(graph, tmp_path / "copy.onnx")
        assert onnx.load(tmp_path / "copy.onnx") == model

    def test_local_functions_are_inlined(self, tmp_path):
        model = small()
        double = helper.make_function(
            "org.example", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )  # fmt: skip
        model.functions.append(double)
        model.opset_import.append(helper.make_opsetid("org.example", 1))
        last = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Twice", [last], ["twice"], domain="org.example"))
        model.graph.output[0].name = "twice"
        (tmp_path / "function.onnx").write_bytes(model.SerializeToString())
        graph = load(tmp_path / "function.onnx")
        assert [n.op for n in graph.nodes] == ["Conv", "Relu", "Conv", "Add"]
        assert graph.outputs == ("twice",)


class TestExternalData:
    @pytest.fixture
    def outside(self, file, tmp_path):
        """The same model with its weights in a file of their own."""
        path = tmp_path / "outside.onnx"
        onnx.save(onnx.load(file), path, save_as_external_data=True, location="outside.bin", size_threshold=0)
        return path

    def test_it_is_read(self, file, outside):
        assert external_files(outside) == ("outside.bin",)
        assert load(outside).model == load(file).model

    def test_weights_can_stay_on_disk(self, outside):
        graph = load(outside, weights=False)
        name = graph.nodes[0].inputs[1]
        assert external.uses_external_data(graph.constants[name])
        assert graph.shape_of_constant(name) == (7, 3, 1, 1)
        np.testing.assert_array_equal(graph.array(name), load(outside).array(name))

    def test_what_protobuf_cannot_hold_goes_beside_the_model(self, tmp_path, monkeypatch):
        big = Graph(helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["x", "w"], ["y"])], "big",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 40])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 50])],
                [numpy_helper.from_array(np.arange(2000, dtype=np.float32).reshape(40, 50), "w")],
            )
        ))  # fmt: skip
        monkeypatch.setattr(onnxprune.graph.files, "PROTOBUF_LIMIT", 4000)
        out = tmp_path / "big.onnx"
        written = save(big, out)
        (data,) = external_files(out)
        assert re.fullmatch(r"big\.onnx\.[0-9a-f]{16}\.data", data)
        assert {p.name for p in tmp_path.iterdir()} == {"big.onnx", data}
        assert written == sum(p.stat().st_size for p in tmp_path.iterdir())
        onnx.checker.check_model(str(out))
        monkeypatch.undo()
        assert load(out).model == big.model


class TestReading:
    def test_links_and_constants(self):
        graph = Graph(small())
        first, relu, last = graph.nodes
        assert graph.producer[relu.inputs[0]] is first
        assert graph.readers[relu.outputs[0]] == [(last, 0)]
        assert graph.outputs == last.outputs
        assert set(graph.constants) == {*first.inputs[1:], *last.inputs[1:]}
        assert graph.inputs == first.inputs[:1]

    def test_initializers_that_are_inputs_are_constants(self):
        model = small()
        weight = model.graph.initializer[0]
        model.graph.input.append(
            helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        )
        assert Graph(model).inputs == Graph(small()).inputs

    def test_parameters_are_values_of_weights(self):
        n = Net("parameters")
        x = n.conv(n.input("batch", 3, 5, 3), 7)
        n.output(n.Reshape(n.Mul(x, 0.5), [0, 105]))
        assert Graph(n.model()).parameters() == 7 * 3 + 7, "neither the lone factor nor the target shape"

    def test_input_specs_name_symbolic_axes(self):
        (spec,) = input_specs(Graph(small()))
        assert (spec.dtype, spec.shape) == (np.dtype(np.float32), ("batch", 3, 5, 3))

    @pytest.mark.parametrize("change", ["values", "name", "width", "operator"])
    def test_the_fingerprint_is_of_the_graph_not_of_its_values(self, change):
        model = small()
        weight = model.graph.initializer[0]
        if change == "values":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
        elif change == "name":
            model.graph.node[0].input[1] = weight.name = "other"
        elif change == "width":
            weight.dims[:] = [3, 7, 1, 1]
        else:
            model.graph.node[1].op_type = "Tanh"
        same = Graph(model).fingerprint() == Graph(small()).fingerprint()
        assert same == (change == "values")


class TestEditing:
    def test_the_original_stays(self):
        graph = Graph(small())
        before = graph.model.SerializeToString()
        name = graph.nodes[0].inputs[2]
        after = graph.edited(Edits(constants={name: np.zeros(7, np.float32)}))
        assert not after.array(name).any()
        assert graph.model.SerializeToString() == before

    def test_no_edits_give_the_same_model(self):
        graph = Graph(small())
        assert not Edits()
        assert graph.edited(Edits()).model == graph.model

    def test_a_literal_replaces_one_reader_only(self):
        n = Net("literal")
        shared, x = n.const(n.weight(3, 3, 1, 1), "shared"), n.input("batch", 3, 5, 3)
        n.output(n.Conv(n.Conv(x, shared), shared))
        graph = Graph(n.model())
        after = graph.edited(Edits(literals={(1, 1): np.ones((3, 3, 1, 1), np.float32)}))
        assert after.nodes[0].inputs[1] == "shared"
        assert after.nodes[1].inputs[1] == "shared.pruned"
        np.testing.assert_array_equal(after.array("shared"), graph.array("shared"))

    def test_a_literal_of_the_only_reader_keeps_its_name(self):
        graph = Graph(small())
        weight = graph.nodes[2].inputs[1]
        after = graph.edited(Edits(literals={(2, 1): np.ones((6, 7, 1, 1), np.float32)}))
        assert set(after.constants) == set(graph.constants)
        assert (after.array(weight) == 1).all()

    def test_what_nothing_reads_any_more_goes(self):
        graph = Graph(small())
        weight = graph.nodes[2].inputs[1]
        added = {"other": np.ones((6, 7, 1, 1), np.float32)}
        after = graph.edited(Edits(rewire={(2, 1): "other"}, added=added))
        assert set(after.constants) == set(graph.constants) - {weight} | {"other"}

    def test_nodes_can_be_inserted_and_inputs_rewired(self):
        graph = Graph(small())
        between = make_node("Tanh", graph.nodes[0].outputs, ["t"], "t")
        after = graph.edited(Edits(before={1: [between]}, rewire={(1, 0): "t"}))
        assert [n.op for n in after.nodes] == ["Conv", "Tanh", "Relu", "Conv"]
        assert after.nodes[2].inputs == ("t",)
        onnx.checker.check_model(after.model, full_check=True)

    def test_an_attribute_can_be_set_and_removed(self):
        graph = Graph(small())
        once = graph.edited(Edits(attrs={(0, "group"): 3}))
        assert once.nodes[0].attrs["group"] == 3
        assert "group" not in once.edited(Edits(attrs={(0, "group"): None})).nodes[0].attrs

    def test_a_cut_runs_alone(self):
        graph = Graph(small())
        part = cut(graph, graph.nodes[1:], infer(graph))
        assert [n.op for n in part.nodes] == ["Relu", "Conv"]
        assert part.inputs == graph.nodes[0].outputs
        assert part.outputs == graph.outputs
        x = np.ones((3, 7, 5, 3), np.float32)
        assert run(part.model, {part.inputs[0]: x})[0].shape == (3, 6, 5, 3)

    def test_a_cut_of_unknown_shape_is_refused(self):
        graph = Graph(small())
        facts = infer(graph)
        unknown = type(facts)({}, facts.values, facts.dynamic, facts.dims, facts.dtypes)
        with pytest.raises(InputError, match=r"the shape of .* isn't known"):
            cut(graph, graph.nodes[1:], unknown)


class TestFacts:
    def test_symbolic_axes_get_a_size_and_are_remembered(self):
        graph = Graph(small())
        facts = infer(graph)
        assert facts.dims == {"batch": facts.shapes[graph.inputs[0]][0]}
        assert infer(graph, {"batch": 11}).shapes[graph.outputs[0]] == (11, 6, 5, 3)

    def test_shape_arithmetic_is_known_and_what_depends_on_a_symbol_is_marked(self):
        n = Net("shapes")
        x = n.conv(n.input("batch", 3, 5, 3), 7)
        shape = n.Shape(x)
        n.output(n.Reshape(x, n.Concat(n.Gather(shape, [0], axis=0), [-1], axis=0)))
        graph = Graph(n.model())
        facts = infer(graph, {"batch": 11})
        np.testing.assert_array_equal(facts.values[shape], [11, 7, 5, 3])
        np.testing.assert_array_equal(facts.dynamic[shape], [True, False, False, False])
        assert facts.shapes[graph.outputs[0]] == (11, 105)
