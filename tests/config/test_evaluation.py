"""The evaluation block: what a protocol fills in, and what stays as it is written."""

import pytest
from pydantic import ValidationError

from vegflow.config.evaluation import PROTOCOLS, EvaluationConfig


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_fills_in_what_the_block_does_not_say(name):
    assert EvaluationConfig(protocol=name).resolved == PROTOCOLS[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_block_has_the_last_word(name):
    resolved = EvaluationConfig(protocol=name, correctness_trials=3, shapes=2, timing_trials=60).resolved
    assert (resolved.correctness_trials, resolved.shapes, resolved.most_pairs) == (3, 2, 60)
    assert resolved.least_pairs == PROTOCOLS[name].least_pairs
    assert resolved.kinds == PROTOCOLS[name].kinds


def test_fewer_pairs_than_a_protocol_starts_with_are_all_there_is():
    resolved = EvaluationConfig(protocol="full", timing_trials=4).resolved
    assert (resolved.least_pairs, resolved.most_pairs) == (4, 4)


def test_the_papers_protocol_is_what_the_paper_does():
    paper = PROTOCOLS["paper"]
    assert (paper.correctness_trials, paper.shapes, paper.kinds) == (5, 1, False)
    assert (paper.least_pairs, paper.most_pairs, paper.least_groups, paper.most_groups) == (5, 5, 1, 1)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_can_be_met(name):
    protocol = PROTOCOLS[name]
    assert 3 <= protocol.least_pairs <= protocol.most_pairs
    assert 1 <= protocol.least_groups <= protocol.most_groups
    assert protocol.shapes >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": "quick"},
        {"reference": "inductor"},
        {"isolation": "none"},
        {"timing_trials": 2},
        {"shapes": 0},
        {"correctness_trials": 0},
        {"block_ms": 0},
        {"inputs": "kernelbench"},
    ],
)
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(ValidationError):
        EvaluationConfig(**wrong)


def test_each_setting_makes_other_verdicts():
    changes = {
        "protocol": "full",
        "reference": "compile",
        "correctness_trials": 7,
        "shapes": 2,
        "timing_trials": 9,
        "block_ms": 3.0,
        "delta": 0.05,
        "rtol": 1e-3,
        "atol": 1e-3,
        "timeout_s": 5.0,
        "memory_mb": 512,
        "seed": 1,
    }
    texts = {EvaluationConfig().canonical(), *(EvaluationConfig(**{k: v}).canonical() for k, v in changes.items())}
    assert len(texts) == 1 + len(changes)
