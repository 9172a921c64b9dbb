"""Ends of completions: stop tokens, stop texts that lie across tokens, and the text before them."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError
from vegflow.plan import Study
from vegflow.sampling.engine import TransformersEngine
from vegflow.sampling.protocol import Request
from vegflow.sampling.sample import row_of
from vegflow.sampling.stopping import Stopping, cut

CELL = {"source": "s", "seed": 1, "step": None, "policy": "base"}


@pytest.fixture(scope="module")
def tokenizer():
    """97 tokens of one letter each: ids 3..96 are the letters a, b, ..., and again."""
    letters = {f"{'abcdefgh'[i % 8]}{i}": i for i in range(3, 97)}
    words = {"<end>": 0, "<pad>": 1, "<unk>": 2, **letters}
    fast = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    fast.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


def test_a_stop_text_may_lie_across_tokens_and_an_earlier_one_is_not_seen_again(tokenizer):
    text = tokenizer.decode([10, 11])
    stopping = Stopping(tokenizer, frozenset({0}), [text[1:-1]])
    assert not stopping.ended([5, 10])
    assert stopping.ended([5, 10, 11])
    assert stopping.ended([5, 0])
    assert not Stopping(tokenizer, frozenset(), []).ended([5, 10, 11])


def test_the_text_ends_before_the_first_of_the_stop_texts():
    assert cut("one\ndef two\nclass", ("\nclass", "\ndef ")) == "one"
    assert cut("one", ("\ndef ",)) == "one"


def test_completions_end_with_a_stop_text_keep_its_tokens_and_lose_its_letters(tiny_llama, tokenizer):
    config = SamplingConfig(temperature=2.0, max_tokens=30, stop=("a", "b"))
    request = Request((5, 9, 33), tuple(("stop", i) for i in range(32)))
    ((_, drawn),) = TransformersEngine(tiny_llama, tokenizer, frozenset()).draw([request], config)
    ended = [completion for completion in drawn if completion.finish_reason == "stop"]
    assert len(ended) > 16
    for completion in ended:
        tokens = completion.token_ids
        before, last = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (tokens[:-1], tokens[-1:]))
        assert "a" not in before
        assert "b" not in before
        assert last[0] in "ab"
        row = row_of(tokenizer, CELL, "L1/1", 0, [5, 9, 33], completion, config)
        assert row["completion"] == before
        assert row["n_tokens"] == len(tokens) == len(row["token_logprobs"])


WRONG = {
    "a filter in a study that trains": (
        {"top_p": 0.9},
        "sampling.top_p: trajectories learn from rollouts of the whole",
    ),
    "several": ({"top_k": 5, "min_p": 0.1}, "sampling.top_k, min_p: trajectories learn"),
    "an empty stop text": ({"stop": [""]}, "stop: an empty text would end every completion at once"),
    "no such template": ({"prompt": "mine"}, "sampling.prompt: there is no template 'mine' (there are: chat, compact,"),
    "a whole program of a template for bodies": (
        {"prompt": "function", "scaffold": "full"},
        "'full' needs a chat prompt; 'function' asks for a body",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_sampled_is_refused_before_any_job(root, case):
    sampling, message = WRONG[case]
    raw = {"study": "s", "model": "tiny", "sampling": sampling, "trajectories": {"t": {"tasks": "subset1", "steps": 1}}}
    with pytest.raises(ConfigError) as caught:
        Study(raw, root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_filters_are_allowed_where_nothing_learns(root):
    raw = {"study": "s", "model": "tiny", "sampling": {"top_p": 0.9}, "sample_sets": {"b": {"tasks": "subset1"}}}
    assert Study(raw, root).config.sampling.filters == ("top_p",)
