"""Mixtures of experts and models spread over devices go through the same update."""

import copy

import pytest
import torch

from tests.learning.test_update import FILES, gradient_of, gradients, row_by_row, tables
from tests.models.families import EXPERTS, TARGETS, tiny_model
from vegflow.config.learning import LoraConfig, UpdateConfig
from vegflow.learning.learner import Learner
from vegflow.learning.update import make_batch, update
from vegflow.models.load import load_policy
from vegflow.models.packing import score

CONFIG = UpdateConfig(
    learning_rate=0.01, max_gradient_norm=1e9, lora=LoraConfig(rank=2, alpha=4, expert_parameters=tuple(EXPERTS))
)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    model = tiny_model("gpt_oss")
    folder = tmp_path_factory.mktemp("mixture")
    model.save_pretrained(folder)
    options = {"location": str(folder), "revision": None, "dtype": "float32", "lora_targets": tuple(TARGETS)}
    return model, options


def test_an_update_trains_attention_and_experts(mixture, tmp_path):
    """Sliding windows, sinks, eight experts: the gradient is that of rows by themselves, and the adapter loads again."""
    model, options = mixture
    batch = make_batch(*tables(model), CONFIG)
    learner = Learner.load(options, CONFIG, None, None, init_key=("test", 0))
    update(learner, batch)
    twin = copy.deepcopy(learner.policy)
    seen, _ = gradients(learner)
    record = update(learner, batch)
    loss = torch.zeros(())
    for row, advantage, (logp, _) in zip(batch.rows, batch.advantages_N, row_by_row(twin, batch, 0.5), strict=True):
        ratio = (logp - torch.tensor(row["token_logprobs_tempered"])).exp()
        loss = loss - torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean() / len(batch.rows)
    expected = gradient_of(twin, loss)
    assert any("experts" in name for name in expected)
    flat = [torch.cat([g[name].flatten() for name in sorted(expected)]) for g in (seen, expected)]
    assert record["loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()
    learner.save(tmp_path)
    loaded = load_policy(options, tmp_path / FILES[0])
    row = batch.rows[0]
    with torch.no_grad():
        scores = [score(policy, row["prompt_ids"], [row["token_ids"]]).logprobs[0] for policy in (twin, loaded)]
    torch.testing.assert_close(*scores, atol=1e-6, rtol=0)


def test_a_device_map_changes_where_a_model_is_and_not_what_it_learns(mixture, tmp_path):
    model, options = mixture
    batch = make_batch(*tables(model), CONFIG)
    for name, more in (("plain", {}), ("spread", {"device_map": "auto"})):
        learner = Learner.load({**options, **more}, CONFIG, None, None, init_key=("test", 0))
        update(learner, batch)
        learner.save(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "spread" / file).read_bytes()
