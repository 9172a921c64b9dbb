"""What is refused of an adapter before an engine that is not ours is asked to take it, and what is common to such engines."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.sampling.small_model import save_adapter, save_model
from vegflow.config.engines import LARGEST_RANK
from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError
from vegflow.models.load import ADAPTER_CONFIG
from vegflow.sampling.outside import RANKS, adapter_problem, cut_at_stop_text, read_adapter, seed_of
from vegflow.sampling.stopping import Stopping


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("outside")
    return save_adapter(save_model(base / "model"), base / "adapter", seed=1, rank=12)


def test_an_adapter_as_peft_writes_it_is_taken(folder):
    adapter = read_adapter(folder)
    assert (adapter.rank, adapter.max_rank) == (12, 16)
    assert sorted(adapter.targets) == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert read_adapter(folder / "adapter_model.safetensors") == adapter


def test_the_name_says_what_is_in_it(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert read_adapter(copy).name == read_adapter(folder).name
    said = json.loads((copy / ADAPTER_CONFIG).read_text())
    (copy / ADAPTER_CONFIG).write_text(json.dumps(said | {"lora_alpha": 99}))
    assert read_adapter(copy).name != read_adapter(folder).name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peft_type": "IA3"}, "it is a IA3 adapter"),
        ({"target_modules": "all-linear"}, "not a list of module names"),
        ({"target_modules": ["q_proj", "lm_head"]}, "'lm_head' cannot have an adapter"),
        ({"use_dora": True}, "DoRA"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "use the engine transformers for it"),
        ({"modules_to_save": ["embed_tokens"]}, "replaces whole modules"),
        ({"bias": "all"}, "has biases"),
        ({"rank_pattern": {"q_proj": 4}}, "differ by module"),
        ({"r": 1024}, "its rank is 1024 and vLLM takes at most 512"),
    ],
)
def test_what_vllm_cannot_apply_is_a_sentence(folder, change, reason):
    said = json.loads((folder / ADAPTER_CONFIG).read_text())
    assert adapter_problem(said) is None
    assert reason in adapter_problem(said | change)


def test_an_adapter_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"the adapter in .* cannot be read: .*No such file"):
        read_adapter(tmp_path)


def test_the_largest_rank_is_the_one_that_studies_are_checked_against():
    assert RANKS[-1] == LARGEST_RANK


def test_seeds_are_those_of_the_keys():
    keys = [("set", seed, None, "L1/1", index) for seed in range(4) for index in range(64)]
    assert len({seed_of(key) for key in keys}) == len(keys)
    assert seed_of(keys[0]) == seed_of(("set", 0, None, "L1/1", 0))
    assert all(0 <= seed_of(key) < 2**60 for key in keys)


def test_a_completion_is_cut_after_the_token_that_completes_a_stop_text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "model")
    stopping = Stopping(tokenizer, frozenset(), ("ab",))
    whole, before = tokenizer.encode("xxabyy"), tokenizer.encode("xxab")
    assert cut_at_stop_text(whole, "length", stopping) == (before, "stop")
    assert cut_at_stop_text(tokenizer.encode("xxayy"), "length", stopping) == (tokenizer.encode("xxayy"), "length")
    assert cut_at_stop_text(whole, "length", Stopping(tokenizer, frozenset())) == (whole, "length")


@pytest.mark.parametrize("temperature", [0.005, 2.5])
@pytest.mark.parametrize("engine", [{"engine": "vllm"}, {"engine": "server", "url": "http://localhost:8000/v1"}])
def test_a_temperature_that_vllm_would_change_is_refused(engine, temperature):
    with pytest.raises(ValueError, match=r"takes 0\.01 to 2; take the engine transformers"):
        SamplingConfig(temperature=temperature, **engine)
