"""Plans can be read, replayed and edited; what does not fit is refused with its first difference."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from nets import Net, run
from onnx import numpy_helper

import onnxprune
from onnxprune import plan as plans
from onnxprune.contracts.options import declared
from onnxprune.errors import InputError
from onnxprune.graph import Graph
from onnxprune.pipeline.options import BudgetOptions, Options


def residual(seed: str = "plan", width: int = 12) -> onnx.ModelProto:
    """A stem, a residual block and a head: two groups of channels."""
    n = Net(seed)
    stem = n.Relu(n.conv(n.input("batch", 3, 5, 3), width))
    body = n.conv(n.Relu(n.conv(stem, 10)), width)
    n.output(n.conv(n.Relu(n.Add(stem, body)), 6))
    return n.finished()


def prune(model: onnx.ModelProto, **options):
    return onnxprune.prune(
        Graph(model), **{"ratio": 0.5, "repair": "none", "measure_latency": False, **options}
    )


def apply(model: onnx.ModelProto, plan):
    return onnxprune.apply(Graph(model), plan, measure_latency=False)


def groups_of(data: dict) -> list[dict]:
    """The groups of the only reduction of a plan."""
    (phase,) = data["phases"]
    (reduction,) = phase["reductions"]
    return reduction["groups"]


def data_of(plan) -> dict:
    return json.loads(plans.dumps(plan))


def edited(plan, edit):
    """The plan as someone changes it in an editor."""
    data = data_of(plan)
    edit(data)
    return plans.loads(json.dumps(data))


@pytest.fixture(scope="module")
def result():
    return prune(residual())


class TestWriting:
    def test_it_has_a_schema(self, result):
        schema = plans.schema()
        Draft202012Validator.check_schema(schema)
        data = data_of(result.plan)
        Draft202012Validator(schema).validate(data)
        assert data["$schema"] == schema["$id"]

    def test_the_schema_can_say_no(self, result):
        data = data_of(result.plan)
        groups_of(data)[0]["tensors"][0]["kept"] = ["all"]
        assert not Draft202012Validator(plans.schema()).is_valid(data)

    def test_it_says_what_was_done_and_how(self, result):
        data = data_of(result.plan)
        assert data["version"] == 2
        assert data["options"]["ratio"] == 0.5
        assert {(g["size"], g["kept"]) for g in groups_of(data)} == {(12, 6), (10, 5)}

    def test_indices_are_those_of_the_weights(self, result):
        before, after = Graph(residual()), Graph(result.model)
        for group in result.plan.groups:
            for tensor in group.tensors:
                (axis,) = tensor.axes
                expected = after.array(tensor.name)
                taken = before.array(tensor.name).take(tensor.kept, axis)
                other = set(range(taken.ndim)) - {axis}
                assert taken.shape[axis] == expected.shape[axis]
                assert np.isin(expected, taken).all()
                assert taken.ndim == len(other) + 1

    def test_reading_gives_back_what_was_written(self, result):
        assert plans.loads(plans.dumps(result.plan)) == result.plan

    def test_a_file_can_be_read(self, result, tmp_path):
        (tmp_path / "plan.json").write_text(plans.dumps(result.plan))
        assert plans.read(tmp_path / "plan.json") == result.plan


DECIDE = {
    "sparsity_among": "layer",
    "loss": "loss.onnx",
    "inbound_groups": 2,
    "steps": 3,
    "schedule": "cubic",
    "masked": True,
    "repair": "bias",
    "round_to": 8,
    "min_channels": 2,
    "keep": ["Conv*"],
    "granularity": "head",
    "allow_approximate": True,
    "allow_state": True,
    "simplify": False,
    "evaluations": 7,
    "seed": 5,
}
"""Options that decide about the result, with values other than their defaults."""

DO_NOT = {"pareto", "memory", "batch", "force"}


class TestOptions:
    def test_each_decides_or_does_not(self):
        """An option that is added says which: what decides and is not recorded can't be replayed."""
        own = {d.name for d in declared(Options)} - {d.name for d in declared(BudgetOptions)}
        assert own == {*DECIDE, *DO_NOT, "criterion"}

    @pytest.mark.parametrize("name", DECIDE)
    def test_what_decides_is_recorded(self, name):
        assert Options(**{name: DECIDE[name]}).recorded("l1")[name] == DECIDE[name]
        assert Options().recorded("l1").get(name) != DECIDE[name]

    def test_what_does_not_decide_is_not_recorded(self):
        given = Options(pareto=3, memory=1e9, batch=4, force=True).recorded("l1")
        assert given == Options().recorded("l1")
        assert not DO_NOT & {*given}

    def test_the_metric_is_recorded_by_its_name(self):
        def mine(outputs, labels):
            return 1.0

        assert "metric" not in Options(macs=0.5).recorded("l1")
        assert Options(max_drop=0.1).recorded("l1")["metric"] is None
        assert Options(max_drop=0.1, metric="agreement").recorded("l1")["metric"] == "agreement"
        assert Options(max_drop=0.1, metric=mine).recorded("l1")["metric"] == "mine"

    def test_attention_is_cut_again_as_it_was(self):
        """Heads go whole, or equally much of the width of each: a plan says which was asked for."""
        n = Net("granularity")
        x = n.input("batch", 5, 8)
        q, k, v = (n.Transpose(n.Reshape(n.dense(x, 32), [0, 0, 4, 8]), perm=[0, 2, 1, 3]) for _ in range(3))
        scores = n.Softmax(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), axis=-1)
        y = n.Reshape(n.Transpose(n.MatMul(scores, v), perm=[0, 2, 1, 3]), [0, 0, 32])
        n.output(n.dense(y, 3))
        model = n.finished()
        made = {g: prune(model, granularity=g, force=True) for g in ("head", "width")}
        assert {g: made[g].plan.options["granularity"] for g in made} == {"head": "head", "width": "width"}
        assert made["head"].plan.groups != made["width"].plan.groups
        for found in made.values():
            again = apply(model, plans.loads(plans.dumps(found.plan)))
            assert again.model == found.model


class TestVersionOne:
    """What was written before there were phases is read and replayed."""

    def first(self, plan) -> str:
        data = data_of(plan)
        old = {"$schema": "urn:onnxprune:plan:1", "version": 1, "fingerprint": data["fingerprint"]}
        return json.dumps({**old, "options": data["options"], "groups": groups_of(data)})

    def test_it_is_read(self, result):
        found = plans.loads(self.first(result.plan))
        assert found.groups == result.plan.groups
        assert found.options == result.plan.options

    def test_it_is_replayed(self, result):
        again = apply(residual(), plans.loads(self.first(result.plan)))
        assert again.model == result.model


class TestReplay:
    @pytest.mark.parametrize(
        "options", [{}, {"criterion": "random", "seed": 3}, {"simplify": False}, {"repair": "auto"}]
    )
    def test_it_gives_identical_bytes(self, options):
        first = prune(residual(), **options)
        again = apply(residual(), plans.loads(plans.dumps(first.plan)))
        assert again.model.SerializeToString(deterministic=True) == first.model.SerializeToString(
            deterministic=True
        )
        assert again.plan == first.plan

    def test_a_re_export_is_taken(self, result):
        """Other values and other node names, the same weights' names and shapes."""
        other = residual()
        random = np.random.default_rng(1)
        for tensor in other.graph.initializer:
            array = random.standard_normal(tensor.dims).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for node in other.graph.node:
            node.name = f"again/{node.name}"
        again = apply(other, result.plan)
        shapes = {t.name: tuple(t.dims) for t in result.model.graph.initializer}
        assert {t.name: tuple(t.dims) for t in again.model.graph.initializer} == shapes
        assert again.verdict.exact

    def test_an_edited_plan_is_followed(self, result):
        """Keep the first channels instead; all tensors of the group say so."""
        group = next(g for g in result.plan.groups if g.size == 10)

        again = apply(residual(), edited(result.plan, lambda d: keep_in(d, 10, [0, 1, 2])))
        before, after = Graph(residual()), Graph(again.model)
        for tensor in group.tensors:
            assert after.shape_of_constant(tensor.name)[tensor.axes[0]] == 3
        weight = next(t for t in group.tensors if t.view[0] == 10)
        stem = next(t for g in result.plan.groups if g.size == 12 for t in g.tensors if t.name == weight.name)
        expected = before.array(weight.name)[:3][:, list(stem.kept)]
        np.testing.assert_array_equal(after.array(weight.name), expected)

    def test_a_group_can_be_taken_out(self, result):
        def only_the_first(data):
            del groups_of(data)[1]

        again = apply(residual(), edited(result.plan, only_the_first))
        assert [g.name for g in again.plan.groups] == [result.plan.groups[0].name]

    def test_an_empty_plan_changes_nothing(self, result):
        again = apply(
            residual(), edited(result.plan, lambda d: d.update(phases=[], options={"simplify": False}))
        )
        assert again.model == residual()

    def test_what_it_makes_runs(self, result):
        (out,) = run(result.model, {"x1": np.ones((4, 3, 5, 3), np.float32)})
        assert out.shape == (4, 6, 5, 3)


def tensor_of(data: dict, size: int, k: int = 0) -> dict:
    return next(g for g in groups_of(data) if g["size"] == size)["tensors"][k]


def keep_in(data: dict, size: int, kept: list[int]) -> None:
    for tensor in next(g for g in groups_of(data) if g["size"] == size)["tensors"]:
        tensor["kept"] = kept


class TestMisfits:
    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda d: tensor_of(d, 12).update(name="gone"), "plan, tensor 'gone': the model has no such"),
            (lambda d: tensor_of(d, 10).update(kept=[0, 10]), r"keeps an index outside 0\.\.9"),
            (lambda d: tensor_of(d, 10).update(kept=[0, 11]), r"keeps an index outside 0\.\.9"),
            (lambda d: tensor_of(d, 10).update(axes=[2]), r"its axes \[2\] of .* hold no channels here"),
            (lambda d: tensor_of(d, 10).update(kept=[0]), "is coupled with one that another tensor"),
            (lambda d: keep_in(d, 10, []), "plan, group 'Conv11': no channel would be left"),
        ],
        ids=["name", "index", "index far out", "axis", "coupling", "empty"],
    )  # fmt: skip
    def test_the_first_difference_is_named(self, result, edit, message):
        with pytest.raises(InputError, match=message):
            apply(residual(), edited(result.plan, edit))

    def test_another_width_is_refused(self, result):
        with pytest.raises(InputError, match=r"plan, tensor '\w+': its shape is \[13, .* here, not \[12,"):
            apply(residual(width=13), result.plan)

    def test_channels_that_must_stay_are_refused(self, result):
        """The same weights, but what they make is now an output of the graph."""
        model = residual()
        stem = model.graph.node[1].output[0]
        model.graph.output.append(onnx.ValueInfoProto(name=stem))
        with pytest.raises(InputError, match=r"hold no channels here|can't be removed"):
            apply(model, result.plan)

    def test_rows_of_a_grouped_convolution_stay_equally_wide(self):
        n = Net("grouped plan")
        y = n.Relu(n.conv(n.conv(n.input("batch", 3, 5, 3), 8), 8, group=2))
        n.output(n.conv(y, 6))
        model = n.finished()
        plan = prune(model, force=True).plan
        with pytest.raises(InputError, match="its rows would differ in width"):
            apply(model, edited(plan, lambda d: keep_in(d, 8, [0, 1, 2, 4])))


class TestNotAPlan:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not JSON"),
            ("[]", "is not a plan"),
            ('{"version": 3}', "is a plan of version 3, not 1 to 2"),
            ('{"version": 2, "phases": []}', "missing required field `fingerprint`"),
            ('{"version": 1, "fingerprint": "x"}', "missing required field `groups`"),
            (
                '{"version": 1, "fingerprint": "x", "groups": {}}',
                r"Expected `array`, got `object` - at `\$\.groups`",
            ),
        ],
        ids=["empty", "list", "version", "missing", "missing in 1", "type in 1"],
    )
    def test_it_is_refused(self, text, message):
        with pytest.raises(InputError, match=message):
            plans.loads(text)

    def test_a_wrong_value_is_found(self, result):
        def fraction(data):
            tensor_of(data, 10).update(kept=[0.5])

        with pytest.raises(InputError, match=r"Expected `int`, got `float` - at `\$\.phases"):
            edited(result.plan, fraction)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"plan\.json: no such file"):
            plans.read(tmp_path / "plan.json")
