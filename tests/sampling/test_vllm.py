"""The engine `vllm`, against vLLM itself with a small model; one start for all tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here; `make vllm` tests it in its own environment", allow_module_level=True)

from tests.sampling.engine_promises import (
    TOLERANCE,
    check_logprobs,
    check_stop_text,
    drawn,
    farthest,
    greedy,
    requests,
    transformers_logprobs,
)
from tests.sampling.small_model import PROMPT, save_adapter, save_model
from vegflow.artifacts.io import to_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.prompt import load_template
from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.sampling.sample import sample
from vegflow.sampling.vllm_engine import load
from vegflow.tasks.catalogue import builtin_tasks

TASKS = (PROMPT, "import torch\n" * 12 + PROMPT)
"""The second is longer than a block of vLLM's cache on the CPU (128 tokens), so that its beginning is shared."""
CONFIG = SamplingConfig(engine="vllm", temperature=0.7, max_tokens=12, batch_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapters(folder, tmp_path_factory) -> list[Path]:
    return [save_adapter(folder, tmp_path_factory.mktemp("adapter"), seed) for seed in (2, 3)]


def options(folder: Path, **settings: object) -> dict:
    return {
        "location": str(folder),
        "revision": None,
        "dtype": "float32",
        "vllm": {"max_model_len": 256, "kv_cache_gb": 1, **settings},
    }


@pytest.fixture(scope="module")
def started(folder, adapters):
    with load(options(folder), CONFIG, "cpu") as engine:
        engine.use(adapters[0])  # so that vLLM starts with adapters
        yield engine


@pytest.fixture
def engine(started):
    started.use(None)
    return started


def test_the_same_keys_give_the_same_rollouts_and_other_seeds_others(engine):
    wanted = requests(engine, TASKS, 6)
    first = drawn(engine, wanted, CONFIG)
    assert drawn(engine, wanted, CONFIG) == first
    assert drawn(engine, requests(engine, TASKS, 6, seed=1), CONFIG) != first


def test_a_rollout_does_not_depend_on_what_is_drawn_beside_it(engine):
    wanted = requests(engine, TASKS, 6)
    together = drawn(engine, wanted, CONFIG)
    [alone] = drawn(engine, wanted[1:], CONFIG)
    assert [c.token_ids for c in alone] == [c.token_ids for c in together[1]]


def test_logprobs_at_both_temperatures_are_transformers_and_the_scored(engine, folder):
    check_logprobs(engine, folder, None, requests(engine, TASKS, 8), CONFIG)


@pytest.mark.parametrize("filters", [{"top_p": 0.7}, {"top_k": 3}, {"min_p": 0.2}])
def test_filters_leave_tokens_out_and_logprobs_are_of_the_whole_distribution(engine, folder, filters):
    check_logprobs(engine, folder, None, requests(engine, TASKS[:1], 8), CONFIG.model_copy(update=filters))


def test_top_k_of_one_is_greedy(engine, folder):
    wanted = requests(engine, TASKS[:1], 2)
    [completions] = drawn(engine, wanted, CONFIG.model_copy(update={"top_k": 1}))
    best = greedy(folder, wanted[0].prompt_ids, CONFIG.max_tokens, engine.stop)
    assert [c.token_ids for c in completions] == [best, best]


def test_an_adapter_changes_the_policy_and_is_pefts(engine, folder, adapters):
    wanted = requests(engine, TASKS, 6)
    seen = [drawn(engine, wanted, CONFIG)]
    for adapter in adapters:
        engine.use(adapter)
        check_logprobs(engine, folder, adapter, wanted, CONFIG)
        seen.append(drawn(engine, wanted, CONFIG))
    engine.use(None)
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert drawn(engine, wanted, CONFIG) == seen[0]


def test_a_stop_text_ends_a_completion_with_the_token_that_completes_it(engine):
    check_stop_text(engine, requests(engine, TASKS, 12), CONFIG.model_copy(update={"stop": ("e",)}))


def test_completions_with_a_common_beginning_are_scored_as_if_alone(engine, folder):
    prompt = engine.tokenizer.encode(TASKS[1])[:126]
    tokens = [[*range(20, 30), last] for last in (5, 6, 7)] + [[9], [9]]
    scored = engine.score(prompt, tokens)
    assert farthest(scored, transformers_logprobs(folder, None, prompt, tokens, 1.0)) < TOLERANCE
    assert scored[3] == scored[4]


def test_its_rollouts_are_rows_of_their_table(engine, root):
    tasks = [builtin_tasks("cpu")[name] for name in ("L1/19", "L1/25")]
    cell = {"source": "set", "seed": 1, "step": None, "policy": "base", "first": 0, "count": 3}
    template = load_template(root / "resources/prompts/compact.yaml")
    rows = sample(engine, engine.tokenizer, tasks, template, cell, CONFIG)
    assert to_table(rows, ROLLOUTS).num_rows == 6
    assert [row["rollout_id"] for row in rows[:4]] == [
        f"set/seed1:{n}" for n in ("L1/19:0", "L1/19:1", "L1/19:2", "L1/25:0")
    ]


def test_what_nobody_waits_for_is_given_up(engine):
    wanted = requests(engine, TASKS, 6)
    first = drawn(engine, wanted, CONFIG)
    next(engine.draw(wanted, CONFIG))
    assert drawn(engine, wanted, CONFIG) == first


def test_a_completion_that_would_not_fit_is_a_sentence(engine):
    wanted = requests(engine, TASKS, 1)
    with pytest.raises(VegflowError, match="more than the 256 that max_model_len allows; raise it or lower"):
        drawn(engine, wanted, CONFIG.model_copy(update={"max_tokens": 250}))


def test_a_vllm_of_another_device_is_a_sentence(folder):
    with pytest.raises(ConfigError, match="runs on cpu and the model's file asks for cuda"):
        load(options(folder), CONFIG, "cuda")
