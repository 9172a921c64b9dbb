"""Two processes take the step that one takes, with the base whole in each or half of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.learning import two_processes
from tests.learning.test_update import FILES, tables
from tests.models.families import EXPERTS, TARGETS, tiny_model, with_lora
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_rows, write_table
from vegflow.artifacts.policies import UPDATES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.errors import ConfigError
from vegflow.learning.parallel import Team
from vegflow.learning.update import Batch, Sums, _merged
from vegflow.models.sharded import load_sharded

LORA = {"rank": 2, "alpha": 4, "expert_parameters": EXPERTS}
CASES = {
    "both_learn": ("gpt_oss", {"objective": "paper_ttt", "reward": "speedup", "entropy_bonus": 0.1, "kl_weight": 0.1}),
    # L1/2's rewards are alike: its process has no gradient to add.
    "one_is_silent": ("gpt_oss", {"objective": "dr_grpo"}),
    # Passes of the teacher too, and a group of which no rollout has one.
    "taught": ("gpt_oss", {"objective": "sdpo_official", "teacher": "solution"}),
    "llama": ("llama", {"objective": "grpo", "lora": {"rank": 2, "alpha": 4}}),
    "llama_taught": ("llama", {"objective": "sdpo_paper_prompt", "lora": {"rank": 2, "alpha": 4}, "token_budget": 256}),
    # From an adapter, with the KL to what there was without it.
    "second_step": ("gpt_oss", {"objective": "grpo", "kl_weight": 0.1}),
    "llama_second_step": ("llama", {"objective": "grpo", "kl_weight": 0.1}),
}
WAYS = ("whole", "sharded")
"""How two processes hold the base model."""


def whole(rows, schema):
    """Rows with every column of a schema; what the update does not read is empty."""
    empty = {pa.types.is_string: "", pa.types.is_boolean: False, pa.types.is_list: []}

    def default(kind):
        return next((value for test, value in empty.items() if test(kind)), 0)

    return [{f.name: row.get(f.name, default(f.type)) for f in schema} for row in rows]


def three_tasks(model):
    """Rollouts and evaluations of L1/1, L1/2 and L1/3, which has L1/1's completions of another prompt, off policy."""
    rollouts, evaluations = tables(model)
    change = {"task_id": "L1/3", "prompt_ids": [9, 5, 33]}
    for rows, more in ((rollouts, change), (evaluations, {"task_id": "L1/3"})):
        rows += [{**row, **more, "rollout_id": row["rollout_id"].replace("L1/1", "L1/3")} for row in rows[:3]]
    return rollouts, evaluations


def save(folder, family):
    """A tiny model and its rollouts, with a tokenizer whose words are numbers; and an adapter."""
    model = tiny_model(family)
    model.save_pretrained(folder)
    with_lora(tiny_model(family)).save_pretrained(folder / "adapter")
    words = {f"w{number}": number for number in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0").save_pretrained(folder)
    for name, rows, schema in zip(
        ("rollouts", "evaluations"), three_tasks(model), (ROLLOUTS, EVALUATIONS), strict=True
    ):
        write_table(folder / f"{name}.parquet", whole(rows, schema), schema, {})


def arguments(folder, model, update, shard):
    """What the update script is told; `folder` is called after the case."""
    adapter = str(model / "adapter" / FILES[0]) if folder.name.endswith("second_step") else None
    options = {"location": str(model), "revision": None, "dtype": "float32", "lora_targets": TARGETS}
    return {
        "options": {
            "place": {"trajectory": "t", "seed": 1, "step": 1},
            "update": {"learning_rate": 0.01, "lora": LORA, **update},
            "model": {**options, "learning": {"shard": shard}},
            "prompt": "compact",
        },
        "rollouts": str(model / "rollouts.parquet"),
        "evaluations": str(model / "evaluations.parquet"),
        "output": str(folder / "update.parquet"),
        "adapter": adapter,
        "start": None,
        "optimizer": None,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of updates by one process, by two with the base whole in each and by two that share it; what two say."""
    folder = tmp_path_factory.mktemp("parallel")
    for family in ("gpt_oss", "llama"):
        save(folder / family, family)
    for count, way in (("one", "whole"), *(("two", way) for way in WAYS)):
        (folder / count / way).mkdir(parents=True)
        for name, (family, update) in CASES.items():
            told = arguments(folder / count / way / name, folder / family, update, way == "sharded")
            (folder / count / way / f"{name}.json").write_text(json.dumps(told))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, two_processes.__file__, str(folder / "two")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(two_processes.SCRIPT.parents[2])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    two_processes.main(str(folder / "one"))
    return folder, done.stdout.splitlines()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(trained, case, way):
    """Adapter and moments to 1e-6 of their norm, which sums in another order leave; the record's columns too."""
    folder, _ = trained
    folders = folder / "one" / "whole" / case, folder / "two" / way / case
    for file in FILES:
        one, two = (load_file(folder / file) for folder in folders)
        assert one.keys() == two.keys()
        flat = [torch.cat([values[name].flatten() for name in sorted(one)]).double() for values in (one, two)]
        assert flat[0].norm() > 0
        assert (flat[0] - flat[1]).norm() <= 1e-6 * flat[0].norm()
    (one,), (two,) = (read_rows(folder / "update.parquet", UPDATES) for folder in folders)
    assert one["kl_step"] > 0
    for name in one.keys() - {"seconds", "trajectory", "mismatch"}:
        assert one[name] == (None if two[name] is None else pytest.approx(two[name], rel=1e-5, abs=1e-7)), name
    for ours, theirs in zip(one["mismatch"], two["mismatch"], strict=True):
        assert ours.pop("rollout_id") == theirs.pop("rollout_id")
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)


def test_each_process_holds_half_of_a_sharded_base(trained):
    """To the row: a weight of an odd number of rows gives one process one more."""
    said = trained[1]
    assert len(json.loads(said[0])) == 2
    for location, held in json.loads(said[-1]).items():
        files = load_file(Path(location) / "model.safetensors")
        whole = sum(weight.nbytes for weight in files.values())
        assert [of for _, of in held] == [whole, whole]
        assert sum(own for own, _ in held) == whole
        assert all(own == pytest.approx(whole / 2, rel=0.01) for own, _ in held)
    assert len(json.loads(said[-1])) == 2


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_sharded_model_is_what_its_files_say(tiny_llama, tmp_path, alone):
    """With an output head that is the embeddings."""
    tiny_llama.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = load_sharded({"location": str(tmp_path), "revision": None, "dtype": "float32"})
    expected = tiny_llama.state_dict()
    for name, weight in model.named_parameters():
        assert torch.equal(weight.full_tensor(), expected[name]), name
    ids = torch.arange(2, 9)[None]
    assert torch.equal(model(input_ids=ids).logits, tiny_llama(input_ids=ids).logits)


def test_files_that_store_other_weights_than_the_model_has_are_refused(tiny_llama, tmp_path, alone):
    tiny_llama.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    packed = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file({**weights, "model.layers.1.mlp.up_proj.weight_packed": packed}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="cannot be sharded: its safetensors have no weight 'model"):
        load_sharded({"location": str(tmp_path), "revision": None, "dtype": "float32"})


def test_each_group_has_one_process():
    groups = [[0, 1], [2, 3], [4]]
    assert [Team(rank, 2).share(groups) for rank in (0, 1)] == [[[0, 1], [4]], [[2, 3]]]
    assert Team().share(groups) == groups


def test_of_a_sharded_model_each_process_has_as_many_groups():
    groups = [[0, 1], [2, 3], [4]]
    assert [Team(rank, 2, sharded=True).share(groups) for rank in (0, 1)] == [[[0, 1], [4]], [[2, 3], []]]


def test_what_processes_measure_is_added_up():
    """With a teacher each process knows the signal of its own rollouts alone."""
    batch = Batch([], [], np.zeros(3), np.array([0.5, -0.5, 0.0]), 1.0)
    parts = [Sums(np.array([2.0, -0.5, 0.0]), loss=1.0), Sums(np.array([0.5, -0.5, 3.0]), loss=2.0, ratio=4.0)]
    merged = _merged(parts, batch)
    assert merged.signal_N.tolist() == [2.0, -0.5, 3.0]
    assert (merged.loss, merged.ratio) == (3.0, 4.0)
