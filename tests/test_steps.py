"""Going there in steps: what went in one stays gone, costs nothing more, and what is left is rated anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_limits import CASE

from onnxprune.contracts.groups import Choice, Group
from onnxprune.cost.quantities import read
from onnxprune.strategies.ladder import Ladder
from onnxprune.strategies.limits import widest_within
from onnxprune.strategies.schedule import schedule
from onnxprune.strategies.steps import rescored, stepwise
from onnxprune.strategies.widths import Widths

TARGET = 0.4


def problem():
    return CASE.problem(read("--macs", str(TARGET)), widths=Widths(least=2))


def first_choice(kind="linear") -> Choice:
    """What two steps keep after the first of them."""
    return CASE.path.choice(schedule(CASE.path.share(widest_within(problem())), 2, kind)[0])


def left(choice: Choice, rate) -> list[Ladder]:
    """Ladders of the groups as they are left, with scores of a test's own."""
    found = []
    for ladder in CASE.path.ladders:
        stays = choice.of(ladder.group)
        found.append(Ladder(replace(ladder.group, size=int(stays.sum())), rate(ladder.scores[stays])))
    return found


def test_one_step_looks_at_nothing():
    whole = problem()
    assert stepwise(whole, 1, "linear", lambda _: pytest.fail("there is nothing to look at")) is whole


def test_what_is_gone_goes_first_and_for_nothing():
    choice = first_choice()
    assert not choice.removes_nothing()
    after = stepwise(problem(), 2, "linear", lambda _: [])
    for old, new in zip(CASE.path.ladders, after.allocation.ladders, strict=True):
        stays = choice.of(old.group)
        gone = int((~stays).sum())
        assert new.group is old.group
        assert (new.curve[: gone + 1] == 0).all()
        np.testing.assert_allclose(new.curve[gone:], old.curve[gone:] - old.curve[gone])
        np.testing.assert_array_equal(np.sort(np.argsort(new.scores)[:gone]), np.flatnonzero(~stays))
        np.testing.assert_array_equal(new.scores[stays], old.scores[stays])
        assert new.counts[-1] == 2, "the least is kept to"
    final = after.allocation.choice(TARGET)
    for old in CASE.path.ladders:
        assert not (final.of(old.group) & ~choice.of(old.group)).any()


def test_what_is_left_is_rated_anew():
    seen = []

    def refresh(choice):
        seen.append(choice)
        return left(choice, lambda scores: scores.max() - scores)

    after = stepwise(problem(), 2, "linear", refresh)
    assert [choice.digest for choice in seen] == [first_choice().digest]
    final = after.allocation.choice(TARGET)
    for old, new in zip(CASE.path.ladders, after.allocation.ladders, strict=True):
        stays = seen[0].of(old.group)
        gone = int((~stays).sum())
        np.testing.assert_allclose(
            new.curve[gone:], Ladder(old.group, new.scores[stays]).curve[: stays.sum() + 1]
        )
        kept, dropped = final.of(old.group), stays & ~final.of(old.group)
        if dropped.any():
            assert old.scores[dropped].min() >= old.scores[kept].max(), "the best of before go now"


def test_ladders_of_another_size_are_not_believed():
    plain = stepwise(problem(), 2, "linear", lambda _: [])
    other = stepwise(problem(), 2, "linear", lambda _: list(CASE.path.ladders))
    for a, b in zip(plain.allocation.ladders, other.allocation.ladders, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)


def test_steps_are_looked_at_one_after_the_other():
    """Each at its share of the cost; the last is left to whoever goes on."""
    shares, said = [], []
    whole = replace(problem(), progress=said.append)

    def refresh(choice):
        shares.append(CASE.path.share(choice))
        return []

    stepwise(whole, 4, "cubic", refresh, target=0.2)
    wanted = schedule(0.2, 4, "cubic")[:-1]
    assert all(0.9 * most < share <= most for share, most in zip(shares, wanted, strict=True))
    assert [text[:11] for text in said] == ["Step 1 of 4", "Step 2 of 4", "Step 3 of 4"]


def test_no_step_goes_below_what_can_be_reached():
    seen = []
    stepwise(problem(), 2, "linear", lambda choice: seen.append(choice) or [], target=-1.0)
    assert [choice.digest for choice in seen] == [CASE.path.narrowest.digest]


# ---------------------------------------------------------------- scores alone


GROUP = Group("g", "g", "weight", 8)


def chosen(scores, keep):
    stays = np.zeros(8, bool)
    stays[np.argsort(-scores[0], kind="stable")[: round(8 * keep)]] = True
    return Choice({"g": stays})


def stays(rescore, steps=2, keep=0.25):
    said = []
    found = rescored([GROUP], (np.arange(8.0),), keep, steps, "linear", chosen, rescore, said.append)
    assert len(said) == steps - 1
    return np.flatnonzero(found.of(GROUP)).tolist()


def test_scores_are_those_of_what_is_left():
    """3 of 8 go, and of the others 2 stay: those of old, or what new scores say, of these or of all."""
    assert stays(lambda _: {}) == [6, 7]
    assert stays(lambda _: {"g": np.array([5.0, 4.0, 3.0, 2.0, 1.0])}) == [3, 4]
    assert stays(lambda _: {"g": np.array([9.0, 9.0, 9.0, 5.0, 4.0, 3.0, 2.0, 1.0])}) == [3, 4]
    assert stays(lambda _: {"g": np.array([1.0, 2.0])}) == [6, 7], "of another size: not believed"
    assert stays(lambda _: {"g": np.full(5, -100.0)}) == [3, 4], "what is gone goes before the worst"


def test_one_step_of_scores_looks_at_nothing():
    assert stays(lambda _: pytest.fail("there is nothing to look at"), steps=1) == [6, 7]
