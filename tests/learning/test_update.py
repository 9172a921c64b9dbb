"""One update against its equation, and the promises around it: determinism, resume, and no step that is not finite."""

import copy

import pytest
import torch

from vegflow.config.learning import LoraConfig, UpdateConfig
from vegflow.errors import VegflowError
from vegflow.learning.update import Batch, Learner, make_batch, update
from vegflow.models.packing import score

PROMPTS = {"L1/1": [5, 9, 33], "L1/2": [8, 8, 2, 71]}
COMPLETIONS = {"L1/1": [[8, 3, 0], [44, 0], [8, 3, 0]], "L1/2": [[60, 61, 62, 0], [9, 0], [7, 7, 0]]}
SPEEDUPS = {"L1/1": [1.5, 0.0, 0.9], "L1/2": [1.0, 1.0, 1.0]}
TARGETS = ("q_proj", "v_proj", "down_proj")


def tables(model, temperature=0.5):
    """Rollouts and evaluations whose recorded log-probabilities are the model's own."""
    rollouts, evaluations = [], []
    for task, prompt in PROMPTS.items():
        with torch.no_grad():
            old = score(model, prompt, COMPLETIONS[task], temperature=temperature).logprobs
        for index, tokens in enumerate(COMPLETIONS[task]):
            name = f"r:{task}:{index}"
            rollouts.append(
                {
                    "rollout_id": name,
                    "task_id": task,
                    "index": index,
                    "prompt_ids": prompt,
                    "token_ids": tokens,
                    "token_logprobs_tempered": old[index].tolist(),
                    "temperature": temperature,
                    "n_tokens": len(tokens),
                    "n_prompt_tokens": len(prompt),
                }
            )
            gain = SPEEDUPS[task][index]
            evaluations.append(
                {
                    "rollout_id": name,
                    "status": "correct" if gain else "wrong_output",
                    "speedup": gain,
                    "fast_1": gain > 1,
                }
            )
    return rollouts, evaluations


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_llama):
    folder = tmp_path_factory.mktemp("model")
    tiny_llama.save_pretrained(folder)
    return {"location": str(folder), "revision": None, "dtype": "float32", "lora_targets": TARGETS}


def config(**changes):
    return UpdateConfig(**{"learning_rate": 0.01, "lora": LoraConfig(rank=4, alpha=8), **changes})


def learner_and_batch(options, tiny_llama, **changes):
    settings = config(**changes)
    learner = Learner.load(options, settings, None, None, init_key=("test", 0))
    return learner, make_batch(*tables(tiny_llama), settings.objective)


def gradients(learner):
    """Gradient of the next step, taken from a copy of the optimizer's view before it is cleared."""
    seen = {}
    original = learner.optimizer.step
    learner.optimizer.step = lambda: seen.update(
        {name: p.grad.clone() for name, p in zip(learner.names, learner.parameters, strict=True)}
    )
    return seen, original


def test_the_gradient_is_grpos(options, tiny_llama):
    """On policy the ratio is 1 and nothing is clipped: the gradient is -(1/N) sum_i A_i (1/L_i) sum_t grad log p."""
    learner, batch = learner_and_batch(options, tiny_llama, max_gradient_norm=1e9)
    twin = copy.deepcopy(learner.policy)
    seen, _ = gradients(learner)
    record = update(learner, batch)
    rewards = torch.tensor(SPEEDUPS["L1/1"], dtype=torch.float64)
    by_hand = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    loss = torch.zeros(())
    for advantage, tokens in zip(by_hand.tolist(), COMPLETIONS["L1/1"], strict=True):
        ids = torch.tensor([PROMPTS["L1/1"] + tokens])
        logp = (twin(input_ids=ids).logits[0] / 0.5).log_softmax(-1)
        first = len(PROMPTS["L1/1"]) - 1
        terms = [logp[first + t, token] for t, token in enumerate(tokens)]
        loss = loss - advantage * sum(terms) / len(terms) / 6
    loss.backward()
    expected = {name: p.grad for name, p in twin.named_parameters() if p.requires_grad}
    assert seen.keys() == expected.keys()
    flat = [torch.cat([g[name].flatten() for name in sorted(g)]) for g in (seen, expected)]
    assert flat[1].norm() > 0
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()
    assert record["gradient_norm"] == pytest.approx(flat[1].norm().item(), rel=1e-5)
    assert record["zero_variance_groups"] == 1
    assert record["fast_negative_share"] == 0.0
    assert record["kl_start"] == 0.0
    assert record["student_tokens"] == 3 * 3 + 8 + 3 * 4 + 9


def test_the_policy_moves_towards_what_was_rewarded(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    before = score(learner.policy, PROMPTS["L1/1"], COMPLETIONS["L1/1"]).logprobs
    for _ in range(3):
        update(learner, batch)
    after = score(learner.policy, PROMPTS["L1/1"], COMPLETIONS["L1/1"]).logprobs
    assert after[0].sum() > before[0].sum()
    assert after[1].sum() < before[1].sum()


def test_two_steps_in_one_process_equal_two_processes(options, tiny_llama, tmp_path):
    learner, batch = learner_and_batch(options, tiny_llama)
    update(learner, batch)
    learner.save(tmp_path / "one")
    update(learner, batch)
    learner.save(tmp_path / "two")

    from safetensors.torch import load_file

    adapter = tmp_path / "one" / "adapter_model.safetensors"
    resumed = Learner.load(options, config(), adapter, None, init_key=("test", 0))
    resumed.restore(load_file(tmp_path / "one" / "optimizer.safetensors"))
    record = update(resumed, batch)
    resumed.save(tmp_path / "again")
    for name in ("adapter_model.safetensors", "optimizer.safetensors", "adapter_config.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert record["kl_start"] != 0.0


def test_kl_to_another_start_needs_no_step(options, tiny_llama, tmp_path):
    """Started from an adapter, the divergence at the first step is 0, at the second it is that adapter's."""
    learner, batch = learner_and_batch(options, tiny_llama)
    update(learner, batch)
    learner.save(tmp_path / "start")
    start = tmp_path / "start" / "adapter_model.safetensors"
    first = Learner.load(options, config(), start, start, init_key=("t", 0))
    assert update(first, batch)["kl_start"] == 0.0
    first.save(tmp_path / "next")
    second = Learner.load(options, config(), tmp_path / "next" / start.name, start, init_key=("t", 0))
    trained = list(second.names)
    assert update(second, batch)["kl_start"] != 0.0
    assert second.names == trained
    assert all("default" in name for name in trained)


def test_a_fresh_adapter_changes_nothing_and_is_named_by_its_key(options, tiny_llama):
    learner = Learner.load(options, config(), None, None, init_key=("a", 1))
    same = Learner.load(options, config(), None, None, init_key=("a", 1))
    other = Learner.load(options, config(), None, None, init_key=("a", 2))
    logits = [m(input_ids=torch.tensor([[4, 5]])).logits for m in (learner.policy, tiny_llama)]
    assert torch.equal(*logits)
    pairs = list(zip(learner.parameters, same.parameters, other.parameters, strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_a_step_that_is_not_finite_is_refused_and_the_policy_kept(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    before = [p.clone() for p in learner.parameters]
    batch.advantages_N[0] = float("nan")
    with pytest.raises(VegflowError, match="not finite"):
        update(learner, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


def test_broken_evaluations_teach_nothing(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    evaluations[0]["status"] = "evaluator_error"
    batch = make_batch(rollouts, evaluations, "grpo")
    assert isinstance(batch, Batch)
    assert len(batch.rows) == 5
    for row in evaluations:
        row["status"] = "evaluator_error"
    with pytest.raises(VegflowError, match="nothing to learn from"):
        make_batch(rollouts, evaluations, "grpo")


def test_rollouts_without_verdict_are_an_error(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    with pytest.raises(VegflowError, match="1 rollouts have no evaluation, the first is r:L1/2:2"):
        make_batch(rollouts, evaluations[:-1], "grpo")


def test_rows_are_sorted_so_that_their_order_on_disk_does_not_matter(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    forward = make_batch(rollouts, evaluations, "grpo")
    backward = make_batch(rollouts[::-1], evaluations, "grpo")
    assert [r["rollout_id"] for r in forward.rows] == [r["rollout_id"] for r in backward.rows]
    assert forward.advantages_N.tolist() == backward.advantages_N.tolist()
