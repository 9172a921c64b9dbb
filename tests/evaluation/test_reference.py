"""A reference at work: what it makes, what of it is ever seen twice, and what becomes of its workers."""

import pytest
import torch
from small_programs import SOFTSIGN, task

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation import reference as room
from vegflow.evaluation.arena import views
from vegflow.evaluation.inputs import KINDS, Variant
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.reference import Reference, Survey
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Worker

pytestmark = pytest.mark.xdist_group("evaluator")

CONFIG = EvaluationConfig(device="cpu", block_ms=0.1)
SMALL = task("T/6", "x, = arguments\nreturn x / (1 + torch.abs(x))", "[torch.randn(20, 30)]")


def start(of=SMALL, config=CONFIG, survey=None, seed="a seed"):
    return Reference(shared_zygote("cpu"), of, config, seed, survey)


@pytest.fixture(scope="module")
def reference():
    reference = start()
    yield reference
    reference.close()


@pytest.fixture
def asked(monkeypatch):
    """The kinds of requests that workers get."""
    kinds, ask = [], Worker.ask

    def noting(self, kind, **request):
        kinds.append(kind)
        return ask(self, kind, **request)

    monkeypatch.setattr(Worker, "ask", noting)
    return kinds


def inputs_of(item):
    return views(item.inputs, 0, item.form)


def test_every_kind_and_three_shapes_are_among_the_trials(reference):
    items = [reference.item(index) for index in reference.items()]
    assert {item.variant.kind for item in items} == set(KINDS)
    shapes = {tuple(item.form[0]["shape"]) for item in items}
    assert len(shapes) == 3
    assert (20, 30) in shapes
    assert all(rows <= 20 and columns <= 30 for rows, columns in shapes)


def test_what_is_expected_is_what_the_task_does(reference):
    for index in range(reference.trials):
        item = reference.item(index)
        (x,), (target,) = inputs_of(item), item.expectation
        assert target.expected.shape == x.shape == tuple(item.output_form[0]["shape"])
        exact = (x.double() / (1 + x.double().abs())).float()
        assert torch.equal(target.expected, exact)


def test_trials_come_in_a_new_order_each_time(reference):
    orders = {tuple(reference.items()) for _ in range(20)}
    assert len(orders) > 10
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(reference.trials))}


def test_another_seed_gives_other_inputs_and_the_same_gives_the_same(reference):
    again, other = start(survey=reference.survey), start(survey=reference.survey, seed="another")
    try:
        assert torch.equal(reference.item(0).inputs, again.item(0).inputs)
        assert not torch.equal(reference.item(0).inputs, other.item(0).inputs)
    finally:
        again.close()
        other.close()


def test_an_item_that_gave_way_is_made_again_as_it_was(reference, monkeypatch):
    monkeypatch.setattr(room, "LARGEST_POOL", 1)
    again = start(survey=reference.survey)
    try:
        for index in [*range(again.trials), *range(again.trials)]:
            assert torch.equal(again.item(index).inputs, reference.item(index).inputs)
            expected = [target.expected for target in reference.item(index).expectation]
            assert all(map(torch.equal, expected, (target.expected for target in again.item(index).expectation)))
            assert len(again._items) == 1
    finally:
        again.close()


def test_a_smaller_item_holds_nothing_of_another(reference):
    for index in range(reference.trials):
        item = reference.item(index)
        assert not item.inputs[4 * inputs_of(item)[0].numel() :].any()


def test_fresh_inputs_are_never_seen_before(reference):
    bases = [parent.value for (parent,) in reference._bases]
    seen = {bytes(reference.item(i).inputs.numpy()) for i in range(reference.trials)}
    for _ in range(30):
        inputs = reference.fresh_inputs()
        data = torch.zeros_like(reference.item(0).inputs)
        inputs.write(data)
        (x,) = views(data, 0, inputs.form)
        assert x.shape == (20, 30)
        assert x.isfinite().all()
        assert not any(torch.isin(x, base).float().mean() > 0.01 for base in bases)
        seen.add(bytes(data.numpy()))
    assert len(seen) == reference.trials + 30


def test_a_new_timed_worker_is_another_process_and_the_maker_stays(reference):
    before, maker = reference.worker.pid, reference._maker.pid
    reference.renew()
    assert reference.worker.pid not in (before, maker)
    assert reference._maker.pid == maker
    assert reference.overhead_s > 0


def test_the_timed_worker_gives_what_is_expected(reference):
    seen = 0
    for items in reference.trials_by_slot():
        block = reference.run(list(items))
        for slot, item in items.items():
            (output,) = reference.read(block, slot, item.output_form)
            torch.testing.assert_close(output, item.expectation[0].expected)
        assert not reference.changed(reference.worker, {slot: item.inputs for slot, item in items.items()})
        assert block.call_s > 0
        seen += len(items)
    assert seen == reference.trials


def test_the_first_trial_is_alone_and_of_the_tasks_own_shape(reference):
    firsts = [next(reference.trials_by_slot()) for _ in range(20)]
    assert all(len(items) == 1 for items in firsts)
    assert all(not item.variant.narrow for items in firsts for item in items.values())


def test_inputs_that_the_stage_cannot_hold_are_put_there_for_each_trial(monkeypatch):
    monkeypatch.setattr(room, "LARGEST_STAGE", 1)
    small = start()
    try:
        assert small.stage.shape.slots == small.stage.changing == 2
        for items in small.trials_by_slot():
            for slot, item in items.items():
                assert torch.equal(small.stage.inputs(slot), item.inputs)
    finally:
        small.close()


def test_a_survey_that_is_known_is_not_made_again(asked):
    survey = Survey([Variant(), Variant("negative")], [])
    reference = start(survey=survey)
    try:
        assert "survey" not in asked
        assert reference.survey == survey
        assert {reference.item(index).variant.kind for index in reference.items()} == {"given", "negative"}
    finally:
        reference.close()


def test_a_survey_survives_its_own_json(reference):
    assert Survey.from_json(reference.survey.to_json()) == reference.survey


def test_the_papers_protocol_tries_the_tasks_own_inputs_alone():
    reference = start(config=CONFIG.model_copy(update={"protocol": "paper"}))
    try:
        assert reference.survey.variants == [Variant()]
        assert reference.trials == 5
    finally:
        reference.close()


LAZY = {
    "a constant": ("return torch.ones_like(arguments[0])", "[torch.randn(20, 30)]", "ones"),
    "zeros": ("return arguments[0] * 0", "[torch.randn(20, 30)]", "zeros"),
    "its input": ("return arguments[0].clone()", "[torch.randn(20, 30)]", "identity of input 0"),
}


@pytest.mark.parametrize("name", LAZY)
def test_a_task_that_cannot_tell_right_from_wrong_says_so(name):
    forward, inputs, answer = LAZY[name]
    with pytest.raises(Fault, match=rf"audit of itself: .*{answer} passes") as caught:
        start(task("T/7", forward, inputs))
    assert caught.value.status == "evaluator_error"


def test_a_task_whose_inputs_change_their_size_says_so():
    growing = task("T/8", "return arguments[0].sin()", "[torch.randn(size())]")
    source = growing.source + "\nsizes = []\ndef size():\n    sizes.append(1)\n    return 64 * len(sizes)\n"
    growing = type(growing)(id="T/8", name="T/8", description="", arguments=("x",), source=source)
    with pytest.raises(Fault, match="T/8") as caught:
        start(growing)
    assert caught.value.status == "evaluator_error"


def test_the_stage_holds_blocks_of_a_short_call():
    reference = start(SOFTSIGN)
    try:
        calls = reference.stage.changing
        assert calls >= 2
        assert reference.stage.shape.size <= 256 << 20
    finally:
        reference.close()
