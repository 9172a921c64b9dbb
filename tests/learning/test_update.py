"""One update against its equation, and the promises around it: temperature, its record, and steps in several processes."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vegflow.artifacts.io import to_table
from vegflow.artifacts.policies import UPDATES
from vegflow.config.learning import LoraConfig, UpdateConfig
from vegflow.errors import VegflowError
from vegflow.learning.learner import Learner
from vegflow.learning.update import Batch, make_batch, update
from vegflow.models.packing import score

PROMPTS = {"L1/1": [5, 9, 33], "L1/2": [8, 8, 2, 71]}
COMPLETIONS = {"L1/1": [[8, 3, 0], [44, 0], [8, 3, 0]], "L1/2": [[60, 61, 62, 0], [9, 0], [7, 7, 0]]}
SPEEDUPS = {"L1/1": [1.5, 0.0, 0.9], "L1/2": [1.0, 1.0, 1.0]}
FILES = ("adapter_model.safetensors", "optimizer.safetensors")
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
                    "completion": f"return {index}",
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
                    "correct": gain > 0,
                    "candidate_sha256": str(sorted(tokens)) if gain else None,
                    "reason": "" if gain else "values differ\nby a lot",
                    "runtime_us": 10.0 / gain if gain else None,
                    "reference_us": 10.0 if gain else None,
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
    return learner, make_batch(*tables(tiny_llama), settings)


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


def test_broken_evaluations_teach_nothing(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    evaluations[0]["status"] = "evaluator_error"
    batch = make_batch(rollouts, evaluations, config())
    assert isinstance(batch, Batch)
    assert len(batch.rows) == 5
    for row in evaluations:
        row["status"] = "evaluator_error"
    with pytest.raises(VegflowError, match="nothing to learn from"):
        make_batch(rollouts, evaluations, config())


def test_rollouts_without_verdict_are_an_error(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    with pytest.raises(VegflowError, match="1 rollouts have no evaluation, the first is r:L1/2:2"):
        make_batch(rollouts, evaluations[:-1], config())


def test_rows_are_sorted_so_that_their_order_on_disk_does_not_matter(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    forward = make_batch(rollouts, evaluations, config())
    backward = make_batch(rollouts[::-1], evaluations, config())
    assert [r["rollout_id"] for r in forward.rows] == [r["rollout_id"] for r in backward.rows]
    assert forward.advantages_N.tolist() == backward.advantages_N.tolist()


def row_by_row(policy, batch, temperature):
    """Each rollout by itself, unpacked: log-probabilities with gradient and entropies."""
    for row in batch.rows:
        ids = torch.tensor([row["prompt_ids"] + row["token_ids"]])
        logp = (policy(input_ids=ids).logits[0] / temperature).log_softmax(-1)
        own = logp[len(row["prompt_ids"]) - 1 : -1]
        yield own.gather(1, torch.tensor(row["token_ids"])[:, None])[:, 0], -(own.exp() * own).sum(-1)


def gradient_of(policy, loss):
    policy.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.requires_grad}


def assert_same_gradient(seen, expected):
    flat = [torch.cat([g[name].flatten() for name in sorted(expected)]) for g in (seen, expected)]
    assert flat[1].norm() > 0
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()


def moved(options, tiny_llama, **changes):
    """A learner that has taken a step, so that ratios, the KL to the start and the entropy's slope are not trivial."""
    learner, batch = learner_and_batch(options, tiny_llama, **changes)
    update(learner, batch)
    learner._start = "base"
    return learner, batch


@pytest.mark.parametrize("aggregation", ["token_sum", "token_mean", "seq_mean", "constant"])
def test_the_whole_loss_is_its_equation(options, tiny_llama, aggregation):
    """Clip, aggregation, entropy bonus and KL to the start, off policy, against rows by themselves."""
    learner, batch = moved(
        options, tiny_llama, aggregation=aggregation, entropy_bonus=0.3, kl_weight=0.2, max_gradient_norm=1e9
    )
    twin = copy.deepcopy(learner.policy)
    seen, _ = gradients(learner)
    record = update(learner, batch)
    with torch.no_grad(), twin.disable_adapter():
        start = [logp for logp, _ in row_by_row(twin, batch, 0.5)]
    tokens = sum(len(row["token_ids"]) for row in batch.rows)
    loss, ratios, differences, entropies = torch.zeros(()), [], [], []
    for i, (logp, entropy) in enumerate(row_by_row(twin, batch, 0.5)):
        ratio = (logp - torch.tensor(batch.rows[i]["token_logprobs_tempered"])).exp()
        advantage = float(batch.advantages_N[i])
        terms = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        d = start[i] - logp
        terms = terms + 0.2 * (d.exp() - d - 1)
        scale = {"token_sum": 1, "token_mean": 1 / tokens, "seq_mean": 1 / len(logp) / 6, "constant": 1 / 6}[
            aggregation
        ]
        loss = loss + scale * terms.sum() - 0.3 * entropy.sum() / tokens
        ratios.append(ratio.detach())
        differences.append(-d.detach())
        entropies.append(entropy.detach())
    assert record["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert record["entropy"] == pytest.approx(torch.cat(entropies).mean().item(), rel=1e-5)
    assert record["kl_start"] == pytest.approx(torch.cat(differences).mean().item(), abs=1e-6)
    assert record["ratio_mean"] == pytest.approx(torch.cat(ratios).mean().item(), rel=1e-5)
    assert_same_gradient(seen, gradient_of(twin, loss))


def test_the_record_is_a_row_of_its_table(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    record = {"trajectory": "t", "seed": 1, "step": 1} | update(learner, batch)
    assert to_table([record], UPDATES).num_rows == 1
    assert record["stepped"]
    assert record["temperature"] == 0.5
    assert record["distinct_candidates"] == 4
    assert record["teacher_tokens"] == 0
    assert record["seconds"] > 0
    absolute = np.abs(batch.advantages_N)
    assert record["effective_rollouts"] == pytest.approx(absolute.sum() ** 2 / (absolute**2).sum())


def test_the_size_of_the_step_is_measured_on_the_first_rollouts(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    with torch.no_grad():
        before = [logp for logp, _ in row_by_row(learner.policy, batch, 0.5)]
    record = update(learner, batch)
    with torch.no_grad():
        after = [logp for logp, _ in row_by_row(learner.policy, batch, 0.5)]
    d = torch.cat(after).double() - torch.cat(before).double()
    assert record["kl_step"] == pytest.approx((d.exp() * d - d.exp() + 1).mean().item(), rel=1e-3)
    assert record["kl_step"] > 0


def test_temperature_is_that_of_the_rollouts_unless_declared(options, tiny_llama):
    learner, batch = learner_and_batch(options, tiny_llama)
    assert update(learner, batch)["ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    learner, batch = learner_and_batch(options, tiny_llama, train_temperature=1.0)
    record = update(learner, batch)
    assert record["temperature"] == 1.0
    assert abs(record["ratio_mean"] - 1.0) > 0.01


@pytest.mark.parametrize("changes", [{}, {"train_temperature": 1.0}])
def test_what_trainer_and_sampler_differ_by_is_recorded_by_rollout(options, tiny_llama, changes):
    """At the sampling temperature, whatever the learning temperature is."""
    learner, batch = learner_and_batch(options, tiny_llama, importance_cap=1.1, **changes)
    record = update(learner, batch)
    assert record["mismatch_max"] < 1e-5
    learner, batch = learner_and_batch(options, tiny_llama, importance_cap=1.1, **changes)
    batch.rows[1]["token_logprobs_tempered"][0] -= 0.5
    record = update(learner, batch)
    assert [row["rollout_id"] for row in record["mismatch"]] == [row["rollout_id"] for row in batch.rows]
    changed, length = record["mismatch"][1], len(batch.rows[1]["token_ids"])
    assert changed["log_ratio"] == changed["max"] == pytest.approx(0.5, abs=1e-5)
    assert changed["mean"] == pytest.approx(0.5 / length, abs=1e-5)
    assert max(row["max"] for row in record["mismatch"] if row != changed) < 1e-5
    assert record["mismatch_mean"] == pytest.approx(0.5 / batch.lengths.sum(), abs=1e-5)


def test_the_share_of_tokens_that_the_importance_cap_bounds_is_recorded(options, tiny_llama):
    for cap, share in ((None, 0), (1.1, 1), (2.0, 0)):
        learner, batch = learner_and_batch(options, tiny_llama, importance_cap=cap)
        batch.rows[1]["token_logprobs_tempered"][0] -= 0.5  # the trainer finds it 1.65 times as likely
        assert update(learner, batch)["capped_share"] == pytest.approx(share / batch.lengths.sum())


def test_rollouts_of_several_temperatures_are_refused(tiny_llama):
    rollouts, evaluations = tables(tiny_llama)
    rollouts[0]["temperature"] = 1.0
    with pytest.raises(VegflowError, match=r"drawn at several temperatures \(0\.5, 1\)"):
        make_batch(rollouts, evaluations, config())


def test_demonstrations_which_nobody_drew_are_learnt_by_likelihood(options, tiny_llama):
    """Without recorded log-probabilities the ratio is 1 and the loss the mean surprisal of a token of what is right."""
    rollouts, evaluations = tables(tiny_llama, temperature=1.0)
    shown = [row | {"token_logprobs_tempered": []} for row in rollouts]
    settings = config(objective="sft")
    learner = Learner.load(options, settings, None, None, init_key=("test", 0))
    batch = make_batch(shown, evaluations, settings)
    record = update(learner, batch)
    right = {row["rollout_id"] for row in evaluations if row["correct"]}
    told = [p for row in rollouts if row["rollout_id"] in right for p in row["token_logprobs_tempered"]]
    assert record["loss"] == pytest.approx(-np.mean(told), rel=1e-5)
    assert record["stepped"]
    measured = {name: record[name] for name in ("ratio_mean", "kl_step", "mismatch_max", "mismatch")}
    assert measured == {"ratio_mean": None, "kl_step": None, "mismatch_max": None, "mismatch": []}
    assert update(learner, batch)["loss"] < record["loss"]
