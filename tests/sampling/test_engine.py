"""Drawing completions: exact log-probabilities, the right distribution, and rollouts that do not depend on company."""

import collections

import numpy as np
import pytest
import torch

from vegflow.config.sampling import SamplingConfig
from vegflow.models.packing import score
from vegflow.randomness import stream
from vegflow.sampling.engine import TransformersEngine
from vegflow.sampling.protocol import Request

PROMPT = (5, 9, 33, 2, 71)


def draw(model, n, stop, prompt=PROMPT, first=0, **settings):
    """Completions first..first+n-1 of a prompt."""
    request = Request(prompt, tuple(("test", i) for i in range(first, first + n)))
    ((_, drawn),) = TransformersEngine(model, None, frozenset(stop)).draw([request], SamplingConfig(**settings))
    return drawn


def test_the_engine_scores_what_it_drew_with_what_it_recorded(tiny_llama):
    drawn = draw(tiny_llama, 40, {0, 3, 50}, temperature=1.5, max_tokens=9)
    scores = TransformersEngine(tiny_llama, None, frozenset()).score(PROMPT, [c.token_ids for c in drawn])
    for completion, logprobs in zip(drawn, scores, strict=True):
        np.testing.assert_allclose(completion.logprobs, logprobs, atol=1e-5)


@pytest.mark.parametrize(("temperature", "tolerance"), [(1.0, 1e-5), (0.25, 1e-4)])
def test_rescoring_gives_the_log_probabilities_recorded_while_sampling(tiny_llama, temperature, tolerance):
    drawn = draw(tiny_llama, 24, {0, 3, 50}, temperature=temperature, max_tokens=12)
    completions = [c.token_ids for c in drawn]
    raw = score(tiny_llama, PROMPT, completions).logprobs
    tempered = score(tiny_llama, PROMPT, completions, temperature=temperature).logprobs
    for completion, raw_T, tempered_T in zip(drawn, raw, tempered, strict=True):
        np.testing.assert_allclose(completion.logprobs, raw_T, atol=1e-5)
        np.testing.assert_allclose(completion.logprobs_tempered, tempered_T, atol=tolerance)


def test_a_completion_ends_with_its_stop_token_or_is_marked_as_cut(tiny_llama):
    stop = {0, 3, 50}
    drawn = draw(tiny_llama, 64, stop, temperature=2.0, max_tokens=20)
    assert {c.finish_reason for c in drawn} == {"stop", "length"}
    for completion in drawn:
        assert not stop & set(completion.token_ids[:-1])
        assert (completion.token_ids[-1] in stop) == (completion.finish_reason == "stop")
        assert len(completion.token_ids) == 20 or completion.finish_reason == "stop"


def test_a_rollout_does_not_depend_on_how_many_are_drawn_beside_it(tiny_llama):
    settings = {"stop": {0}, "temperature": 1.0, "max_tokens": 12}
    together = draw(tiny_llama, 16, **settings)
    assert draw(tiny_llama, 1, first=7, **settings)[0].token_ids == together[7].token_ids
    narrow = draw(tiny_llama, 16, batch_size=3, **settings)
    assert [c.token_ids for c in narrow] == [c.token_ids for c in together]


def test_first_tokens_follow_the_tempered_distribution(tiny_llama):
    n, temperature = 4000, 0.7
    drawn = draw(tiny_llama, n, set(), temperature=temperature, max_tokens=1, batch_size=n)
    counts = collections.Counter(c.token_ids[0] for c in drawn)
    logits = tiny_llama(input_ids=torch.tensor([PROMPT])).logits[0, -1] / temperature
    expected = logits.softmax(-1).double().numpy()
    likely = expected > 5 / n
    observed = np.array([counts[token] for token in range(len(expected))])[likely]
    chi2 = ((observed - n * expected[likely]) ** 2 / (n * expected[likely])).sum()
    assert chi2 < likely.sum() + 5 * np.sqrt(2 * likely.sum())


def test_streams_are_named_by_their_key_alone():
    assert stream("a", 1).random() == stream("a", 1).random()
    assert stream("a", 1).random() != stream("a", 2).random()
    assert stream("a", "b1").random() != stream("ab", "1").random()
