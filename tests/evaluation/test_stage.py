"""The stage: what one worker writes there, nobody else reads; what the judge writes there, everybody does."""

import os

import pytest
import torch
from small_programs import task

from vegflow.evaluation.arena import POISON, Shape
from vegflow.evaluation.memory import Places
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.stage import Stage
from vegflow.evaluation.verdict import Fault

pytestmark = pytest.mark.xdist_group("evaluator")

FORM = [{"kind": "tensor", "dtype": "float32", "shape": [4096]}]
SIZE = 4 * 4096
READS = task("T/8", "return arguments[0] + 1", "[torch.randn(4096)]")
WRITES = task("T/9", "return arguments[0].add_(1)", "[torch.randn(4096)]")
WRITES_THE_SAME = task("T/10", "arguments[0][-1:].add_(0)\nreturn arguments[0] + 1", "[torch.randn(4096)]")


@pytest.fixture
def stage():
    stage = Stage(Shape(3, SIZE, SIZE), 2, "cpu")
    for slot in range(5):
        stage.inputs(slot).view(torch.float32).fill_(slot)
    yield stage
    stage.close()


@pytest.fixture
def performer(stage):
    """Gives a stopped worker of a task's program on the stage."""
    workers = []

    def make(of):
        worker = shared_zygote("cpu").spawn(60.0, None)
        workers.append(worker)
        worker.ask("load", program=of.source, class_name="Model", init=None, init_seed=0)
        worker.map(stage)
        worker.stop()
        worker.prepare(dict.fromkeys(range(5), (FORM, FORM)))
        return worker

    yield make
    for worker in workers:
        worker.end()


def output(worker, slot):
    return worker.read(worker.run([slot]), slot, FORM)[0]


def test_all_read_what_the_judge_writes(stage, performer):
    one, other = performer(READS), performer(READS)
    for slot, value in ((1, 7.0), (4, 9.0), (1, -3.0)):
        stage.inputs(slot).view(torch.float32).fill_(value)
        for worker in (one, other):
            assert (output(worker, slot) == value + 1).all()
            assert not worker.changed_inputs(range(5))


def test_what_one_writes_into_inputs_is_seen_by_the_judge_and_read_by_nobody_else(stage, performer):
    hostile, honest = performer(WRITES), performer(READS)
    assert (output(hostile, 1) == 2).all()
    assert hostile.changed_inputs([1])
    assert not hostile.changed_inputs([0, 2, 3, 4])
    assert (stage.inputs(1).view(torch.float32) == 1).all()
    assert (output(honest, 1) == 2).all()
    assert not honest.changed_inputs(range(5))


def test_a_single_write_counts_even_of_what_is_there_already(performer):
    worker = performer(WRITES_THE_SAME)
    worker.run([2])
    assert worker.changed_inputs([2])


def test_no_worker_can_map_or_write_the_inputs_otherwise(stage):
    import mmap

    (descriptor,) = stage.descriptors(None)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    try:
        for fd in (descriptor, again):
            with pytest.raises(PermissionError):
                mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            with pytest.raises(PermissionError):
                os.pwrite(fd, b"x", 0)
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 0)
    finally:
        os.close(again)


def test_seats_are_apart_and_hold_nan_until_they_are_written(stage):
    one, other = stage.outputs(0, seat=0), stage.outputs(0, seat=1)
    assert (one == POISON).all()
    one.zero_()
    assert (other == POISON).all()
    assert len({stage.descriptors(None)[0], *stage.descriptors(0)[1:], *stage.descriptors(1)[1:]}) == 3


def test_slots_that_keep_their_inputs_share_the_outputs_of_the_others(stage):
    stage.poison(0, 4)
    stage.outputs(4, seat=0).zero_()
    assert (stage.outputs(1, seat=0) == 0).all()
    stage.poison(0, 1)
    assert (stage.outputs(4, seat=0) == POISON).all()


def test_nothing_of_a_candidate_is_left(stage):
    for slot in range(3):
        stage.poison(0, slot)
        stage.outputs(slot, seat=0).zero_()
    stage.clear(0)
    assert all((stage.outputs(slot, seat=0) == POISON).all() for slot in range(3))


def test_where_the_reference_has_a_seat_too_nothing_of_its_answers_is_left():
    """As on CUDA, where one piece of memory is for all, and what is fetched from the device was put there by nobody here."""
    stage = Stage(Shape(2, 64, 64), 3, "cuda")
    try:
        assert stage.shape.slots == stage.changing == 2
        for slot in range(2):
            stage.outputs(slot, seat=0).zero_()
        stage.poison(0, 0)
        assert (stage.outputs(0, seat=0) == POISON).all()
        stage.clear(0)
        assert all((stage.outputs(slot, seat=0) == POISON).all() for slot in range(2))
    finally:
        stage.close()


def test_pieces_are_nan_and_the_rest_is_as_it_was():
    large = [{"kind": "tensor", "dtype": "float32", "shape": [1 << 20]}]
    stage = Stage(Shape(1, 64, 4 << 20), 0, "cpu")
    try:
        stage.outputs(0, seat=0).zero_()
        places = Places.of(1 << 20, 4)
        stage.poison_pieces(0, 0, large, [places])
        values = stage.outputs(0, seat=0).view(torch.float32)
        assert places.take(values).isnan().all()
        assert values.isnan().sum() == len(set(places.starts)) * places.length
        stage.clear(0)
        assert values.isnan().all()
    finally:
        stage.close()


def test_inputs_that_are_mapped_nowhere_are_a_hack(stage, performer):
    other = Stage(Shape(1, SIZE, SIZE), 0, "cpu")
    worker = performer(READS)
    try:
        with pytest.raises(Fault, match="inputs where they are") as caught:
            worker._watch(other)
        assert caught.value.status == "rejected_hack"
    finally:
        other.close()
