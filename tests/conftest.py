"""What several tests share: tiny models made on the spot, a task set that runs in milliseconds, in-process plans."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: as many test processes run as there are cores

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tiny_llama():
    """A Llama with random weights, grouped-query attention and no dropout."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


LONGEST = (
    "hacks/test_honest.py",
    "workflow/test_incremental.py",
    "workflow/test_run.py",
    "hacks/test_hacks.py",
    "test_warm.py",
)
"""Files of a minute or more. Of two neighbours one judges programs, which hold the lock on timing, and one does not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that none is left over for one worker alone at the end.

    They are taken in this order because of `--no-loadscope-reorder`; else xdist begins with the file of most tests.
    """

    def place(item: pytest.Item) -> int:
        return next((number for number, name in enumerate(LONGEST) if item.path.match(name)), len(LONGEST))

    items.sort(key=place)
