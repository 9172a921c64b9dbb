"""Decoding with shared prompts gives what a model's own forward gives, for every family it says it knows."""

import pytest
import torch

from tests.models.families import FAMILIES, tiny_model, with_lora
from vegflow.config.sampling import SamplingConfig
from vegflow.models import shared
from vegflow.models.packing import score
from vegflow.sampling import engine
from vegflow.sampling.engine import TransformersEngine
from vegflow.sampling.protocol import Request

PROMPTS = [tuple(range(5, 16)), (9, 33), tuple(range(40, 47))]
REQUESTS = [Request(prompt, tuple((number, i) for i in range(6))) for number, prompt in enumerate(PROMPTS)]
STOP = frozenset({0, 3, 50, 51, 52})


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return with_lora(tiny_model(request.param))


def drawn(model, requests=REQUESTS, **settings):
    config = SamplingConfig(**{"temperature": 1.0, "max_tokens": 14, "batch_size": 4} | settings)
    return dict(TransformersEngine(model, None, STOP).draw(requests, config))


def test_recorded_log_probabilities_are_those_of_a_plain_forward(model):
    for number, completions in drawn(model, temperature=0.7).items():
        for completion in completions:
            ids = torch.tensor([PROMPTS[number] + completion.token_ids])
            logits = model(input_ids=ids, use_cache=False).logits[0, len(PROMPTS[number]) - 1 : -1]
            target = torch.tensor(completion.token_ids)[:, None]
            for scale, recorded in ((1.0, completion.logprobs), (0.7, completion.logprobs_tempered)):
                expected = (logits / scale).log_softmax(-1).gather(1, target)[:, 0]
                torch.testing.assert_close(torch.tensor(recorded), expected, atol=1e-5, rtol=0)


def test_the_way_through_the_models_own_cache_draws_the_same(model, monkeypatch):
    ours = drawn(model)
    monkeypatch.setattr(engine, "knows", lambda model: False)
    theirs = drawn(model)
    assert sorted(ours) == sorted(theirs) == [0, 1, 2]
    for number in ours:
        assert [c.token_ids for c in ours[number]] == [c.token_ids for c in theirs[number]]
        assert [c.finish_reason for c in ours[number]] == [c.finish_reason for c in theirs[number]]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_what_is_drawn_beside_changes_nothing(model, batch_size):
    expected = drawn(model, batch_size=7)
    found = drawn(model, batch_size=batch_size)
    alone = drawn(model, REQUESTS[1:2], batch_size=batch_size)
    for number, completions in expected.items():
        assert [c.token_ids for c in found[number]] == [c.token_ids for c in completions]
    assert [c.token_ids for c in alone[0]] == [c.token_ids for c in expected[1]]


def test_slots_that_are_full_grow(model, monkeypatch):
    expected = drawn(model)
    monkeypatch.setattr(shared, "GROWTH", 2)
    assert drawn(model) == expected


def test_rescoring_agrees(model):
    for number, completions in drawn(model).items():
        scores = score(model, PROMPTS[number], [c.token_ids for c in completions]).logprobs
        for completion, logp in zip(completions, scores, strict=True):
            torch.testing.assert_close(torch.tensor(completion.logprobs), logp, atol=1e-5, rtol=0)
