"""FlexAttention gives what the mask gives: on the CPU its exact, slow form; on a GPU the compiled one, and the choice.

PyTorch refuses gradients through it on a CPU, where its compiled form has none; the form that is not compiled has, so the
check is lifted here. Attention sinks (gpt-oss) Transformers refuses on a CPU.
"""

import pytest
import torch
from torch.nn.attention import flex_attention as torch_flex
from transformers.integrations import flex_attention as transformers_flex

from tests.models.families import FAMILIES, tiny_model, with_lora
from tests.models.test_packing import COMPLETIONS, PROMPT, adapter_gradient
from vegflow.models import flex, masks, packing
from vegflow.models.packing import pack, score

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here, on which FlexAttention is compiled")


@pytest.fixture
def not_compiled(monkeypatch):
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(
        transformers_flex,
        "compile_friendly_flex_attention",
        lambda *qkv, training=False, **options: torch_flex.flex_attention(*qkv, **options),
    )


def attended(policy, way, k, monkeypatch):
    """Log-probabilities and adapter gradient of the packed completions, k a row."""
    monkeypatch.setattr(packing, "completions_per_row", lambda *_: k)
    policy.get_base_model().packed_attention = way
    logprobs = score(policy, PROMPT, COMPLETIONS).logprobs
    return logprobs, adapter_gradient(policy, logprobs)


def assert_equal(found, expected, tolerance=1e-5):
    for ours, theirs in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    assert expected[1].norm() > 0
    assert (found[1] - expected[1]).norm() <= tolerance * expected[1].norm()


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gpt_oss"])
def test_blocks_give_what_the_mask_gives(family, k, not_compiled, monkeypatch):
    """Grouped queries, sliding windows and rows of unlike lengths side by side, which pad each other."""
    policy = with_lora(tiny_model(family))
    made = []
    block_mask = flex.block_mask
    monkeypatch.setattr(flex, "block_mask", lambda *a: made.append(a) or block_mask(*a))
    found = attended(policy, "flex", k, monkeypatch)
    assert made
    assert_equal(found, attended(policy, "sdpa", k, monkeypatch))


@pytest.mark.parametrize("window", [None, 2])
def test_a_block_mask_is_the_row_s_mask(window):
    rows = [pack([7, 7], [[1, 2], [3]]), pack([7, 7], [[1]])]
    owner = torch.stack([masks.padded(row.owner_L, 5, flex.NOBODY) for row in rows])
    position = torch.stack([masks.padded(row.position_ids_L, 5) for row in rows])
    made = flex.block_mask(owner, position, window)
    index = [torch.tensor(i) for i in range(5)]
    for b, row in enumerate(rows):
        n = len(row.owner_L)
        seen = torch.tensor([[bool(made.mask_mod(torch.tensor(b), 0, q, k)) for k in index] for q in index])
        assert torch.equal(seen[:n, :n], row.mask(window))
        assert not seen[:n, n:].any()
        assert seen.any(1).all()  # a row of the mask that sees nothing would be 0 / 0


def test_the_faster_one_is_measured_once_for_a_shape(tiny_llama, not_compiled, monkeypatch):
    monkeypatch.setattr(flex, "_FASTER", {})
    calls = []

    def mask_of(name):
        def made():
            calls.append(name)
            rows = [pack(PROMPT, COMPLETIONS)]
            maker = masks.block_masks if name == flex.NAME else masks.attention_masks
            return maker(tiny_llama, rows, 32, torch.device("cpu"))

        return made

    makers = {name: mask_of(name) for name in ("sdpa", flex.NAME)}
    with torch.no_grad():
        first = flex.faster(tiny_llama, makers, (1, 32), torch.float32)
        assert first in makers
        assert flex.faster(tiny_llama, makers, (1, 32), torch.float32) == first
    assert calls == ["sdpa", flex.NAME]


def test_one_that_cannot_be_compiled_is_not_taken(tiny_llama, monkeypatch):
    monkeypatch.setattr(flex, "_FASTER", {})

    def refused():
        raise RuntimeError("head size 12 is not a power of two")

    row = pack(PROMPT, COMPLETIONS)
    length = len(row.owner_L)
    makers = {
        flex.NAME: refused,
        "sdpa": lambda: masks.attention_masks(tiny_llama, [row], length, torch.device("cpu")),
    }
    assert flex.faster(tiny_llama, makers, (1, length), torch.float32) == "sdpa"


def test_on_a_cpu_nothing_is_measured(tiny_llama):
    assert not masks.in_blocks(tiny_llama, [pack(PROMPT, COMPLETIONS)], torch.device("cpu"))


@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", ["flex", "auto"])
def test_on_a_gpu_too(family, way, monkeypatch):
    """Heads of 8 numbers are widened to 16, the least that its kernel takes; sinks too."""
    policy = with_lora(tiny_model(family, head_dim=16)).cuda()
    expected = attended(policy, "sdpa", 3, monkeypatch)
    assert_equal(attended(policy, way, 3, monkeypatch), expected, 1e-3)
    if way == "auto":
        assert flex.NAME in {name for what in flex._FASTER for name in what}
