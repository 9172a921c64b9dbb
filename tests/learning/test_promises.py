"""What an update promises when things go wrong, and that the same inputs give the same bytes."""

import math
import multiprocessing
import signal
import threading
import time

import numpy as np
import pytest
import torch
import tqdm.auto
from safetensors.torch import load_file

from tests.learning.test_update import FILES, TARGETS, config, learner_and_batch, tables
from vegflow.artifacts.io import atomic
from vegflow.errors import ConfigError, VegflowError
from vegflow.learning.learner import Learner
from vegflow.learning.update import make_batch, update


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_llama):
    folder = tmp_path_factory.mktemp("model")
    tiny_llama.save_pretrained(folder)
    return {"location": str(folder), "revision": None, "dtype": "float32", "lora_targets": TARGETS}


def test_a_step_that_is_not_finite_is_refused_and_the_policy_kept(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    before = [p.clone() for p in learner.parameters]
    batch.advantages_N[0] = float("nan")
    with pytest.raises(VegflowError, match="not finite"):
        update(learner, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


def trajectory(folder, options, tiny_llama):
    """Eight steps, each from the files of the one before; those whose record is there are done. The work of a job."""
    torch.set_num_threads(1)
    tqdm.auto.tqdm.set_lock(threading.RLock())  # the default one is all processes': one that is killed may keep it
    for step in range(1, 9):
        before, after = folder / str(step - 1), folder / str(step)
        if (after / "record").exists():
            continue
        adapter = before / FILES[0] if step > 1 else None
        learner = Learner.load(options, config(), adapter, None, init_key=("test", 0))
        if adapter:
            learner.restore(load_file(before / FILES[1]))
        record = update(learner, make_batch(*tables(tiny_llama), learner.config))
        learner.save(after)
        with atomic(after / "record") as temporary:
            temporary.write_text(str(record["loss"]))


def test_a_trajectory_killed_and_resumed_ends_in_the_same_bytes(options, tiny_llama, tmp_path):
    """One process that takes eight steps, and six of which five are killed: at a random moment after none or one more."""
    fork = multiprocessing.get_context("fork")

    def start(name):
        process = fork.Process(target=trajectory, args=(tmp_path / name, options, tiny_llama))
        process.start()
        return process

    began = time.perf_counter()
    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    seconds = (time.perf_counter() - began) / 8

    def done():
        return len(list((tmp_path / "killed").glob("*/record")))

    for more, share in zip((0, 1, 1, 0, 1), np.random.RandomState(0).rand(5), strict=True):
        before, process = done(), start("killed")
        while process.is_alive() and done() < before + more:
            process.join(seconds / 50)
        process.join(share * seconds / 2)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert 3 <= done() < 8
    process = start("killed")
    process.join()
    assert process.exitcode == 0
    for step in range(1, 9):
        for name in FILES:
            assert (tmp_path / "whole" / str(step) / name).read_bytes() == (
                tmp_path / "killed" / str(step) / name
            ).read_bytes()


def collapsed(options, tiny_llama, **changes):
    settings = config(**changes)
    rollouts, evaluations = tables(tiny_llama)
    for row in evaluations:
        row["speedup"] = 1.0
    return Learner.load(options, settings, None, None, init_key=("test", 0)), make_batch(
        rollouts, evaluations, settings
    )


def test_a_batch_of_equal_rewards_hands_the_policy_on(options, tiny_llama, tmp_path):
    learner, _ = collapsed(options, tiny_llama)
    _, batch = learner_and_batch(options, tiny_llama)
    update(learner, batch)
    state = learner.optimizer_state()
    before = [p.clone() for p in learner.parameters]
    record = update(learner, collapsed(options, tiny_llama)[1])
    assert not record["stepped"]
    assert record["kl_step"] == record["gradient_norm"] == record["effective_rollouts"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))
    assert all(torch.equal(state[key], value) for key, value in learner.optimizer_state().items())


def test_a_first_step_that_is_skipped_leaves_files_that_can_be_resumed(options, tiny_llama, tmp_path):
    learner, batch = collapsed(options, tiny_llama)
    update(learner, batch)
    learner.save(tmp_path)
    resumed = Learner.load(options, config(), tmp_path / "adapter_model.safetensors", None, init_key=("test", 0))
    resumed.restore(load_file(tmp_path / "optimizer.safetensors"))
    assert update(resumed, learner_and_batch(options, tiny_llama)[1])["stepped"]


def test_a_batch_of_equal_rewards_can_end_the_job(options, tiny_llama):
    learner, batch = collapsed(options, tiny_llama, on_collapse="stop")
    with pytest.raises(VegflowError, match="no rollout has an advantage"):
        update(learner, batch)


def test_a_bonus_is_reason_enough_for_a_step(options, tiny_llama):
    learner, batch = collapsed(options, tiny_llama, on_collapse="stop", entropy_bonus=0.1)
    assert update(learner, batch)["stepped"]


def test_a_step_that_goes_too_far_is_refused(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama, kl_limit=1e-9)
    with pytest.raises(VegflowError, match=r"moved the policy .* nats per token, more than kl_limit \(1e-09\)"):
        update(learner, batch)


def test_the_output_head_gets_no_adapter(options):
    with pytest.raises(ConfigError, match="lora_targets: 'lm_head' cannot have an adapter"):
        Learner.load({**options, "lora_targets": ("q_proj", "lm_head")}, config(), None, None, init_key=("t", 0))


def wide_batch():
    """Two tasks of twelve ragged rollouts behind a long prompt, for a model whose products are worth several threads."""
    draws = np.random.RandomState(0)
    rows, verdicts = [], []
    for task in ("L1/1", "L1/2"):
        prompt = draws.randint(2, 512, size=150).tolist()
        for index in range(12):
            tokens = draws.randint(2, 512, size=draws.randint(5, 25)).tolist()
            rows.append(
                {
                    "rollout_id": f"{task}:{index}",
                    "task_id": task,
                    "index": index,
                    "prompt_ids": prompt,
                    "token_ids": tokens,
                    "token_logprobs_tempered": [-math.log(512)] * len(tokens),
                    "temperature": 0.5,
                    "n_tokens": len(tokens),
                    "n_prompt_tokens": len(prompt),
                }
            )
            verdicts.append(
                {
                    "rollout_id": f"{task}:{index}",
                    "status": "correct",
                    "speedup": draws.rand(),
                    "fast_1": False,
                    "candidate_sha256": None,
                }
            )
    return rows, verdicts


@pytest.mark.parametrize("objective", ["grpo", "paper_ttt"])
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, objective):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).save_pretrained(tmp_path / "model")
    options = {"location": str(tmp_path / "model"), "revision": None, "dtype": "float32", "lora_targets": TARGETS}
    settings, threads = config(objective=objective, learning_rate=1e-3), torch.get_num_threads()
    saved = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            learner = Learner.load(options, settings, None, None, init_key=("t", 0))
            for _ in range(2):
                update(learner, make_batch(*wide_batch(), settings))
            learner.save(tmp_path / str(count))
            saved.append([(tmp_path / str(count) / name).read_bytes() for name in FILES])
    finally:
        torch.set_num_threads(threads)
    assert saved[0] == saved[1] == saved[2]
