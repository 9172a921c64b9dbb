"""Two processes take the step that one takes."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from tests.learning import two_processes
from tests.learning.test_update import FILES, tables
from tests.models.families import EXPERTS, TARGETS, tiny_model
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_rows, write_table
from vegflow.artifacts.policies import UPDATES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.learning.parallel import Team
from vegflow.learning.update import Batch, Sums, _merged

LORA = {"rank": 2, "alpha": 4, "expert_parameters": EXPERTS}
CASES = {
    "both_learn": {"objective": "paper_ttt", "reward": "speedup", "entropy_bonus": 0.1, "kl_weight": 0.1},
    "one_is_silent": {"objective": "dr_grpo"},  # L1/2's rewards are alike: its process has no gradient to add
}


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of updates by one process and by two, of a mixture of experts."""
    folder = tmp_path_factory.mktemp("parallel")
    model = tiny_model("gpt_oss")
    model.save_pretrained(folder / "model")
    for name, rows, schema in zip(
        ("rollouts", "evaluations"), three_tasks(model), (ROLLOUTS, EVALUATIONS), strict=True
    ):
        write_table(folder / f"{name}.parquet", whole(rows, schema), schema, {})
    options = {"location": str(folder / "model"), "revision": None, "dtype": "float32", "lora_targets": TARGETS}
    for count in ("one", "two"):
        (folder / count).mkdir()
        for name, update in CASES.items():
            told = {
                "options": {
                    "place": {"trajectory": "t", "seed": 1, "step": 1},
                    "update": {"learning_rate": 0.01, "lora": LORA, **update},
                    "model": options,
                    "prompt": "compact",
                },
                "rollouts": str(folder / "rollouts.parquet"),
                "evaluations": str(folder / "evaluations.parquet"),
                "output": str(folder / count / name / "update.parquet"),
                **dict.fromkeys(("adapter", "start", "optimizer")),
            }
            (folder / count / f"{name}.json").write_text(json.dumps(told))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, two_processes.__file__, str(folder / "two")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(two_processes.SCRIPT.parents[2])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(json.loads(done.stdout.splitlines()[0])) == 2
    two_processes.main(str(folder / "one"))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(trained, case):
    """Adapter and moments to 1e-6 of their norm, which sums in another order leave; the record's columns too."""
    for file in FILES:
        one, two = (load_file(trained / count / case / file) for count in ("one", "two"))
        assert one.keys() == two.keys()
        flat = [torch.cat([values[name].flatten() for name in sorted(one)]).double() for values in (one, two)]
        assert flat[0].norm() > 0
        assert (flat[0] - flat[1]).norm() <= 1e-6 * flat[0].norm()
    (one,), (two,) = (read_rows(trained / count / case / "update.parquet", UPDATES) for count in ("one", "two"))
    assert one["kl_step"] > 0
    for name in one.keys() - {"seconds", "trajectory", "mismatch"}:
        assert one[name] == pytest.approx(two[name], rel=1e-5, abs=1e-7), name
    for ours, theirs in zip(one["mismatch"], two["mismatch"], strict=True):
        assert ours.pop("rollout_id") == theirs.pop("rollout_id")
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)


def test_each_group_has_one_process():
    groups = [[0, 1], [2, 3], [4]]
    assert [Team(rank, 2).share(groups) for rank in (0, 1)] == [[[0, 1], [4]], [[2, 3]]]
    assert Team().share(groups) == groups


def test_what_processes_measure_is_added_up():
    """With a teacher each process knows the signal of its own rollouts alone."""
    batch = Batch([], [], np.zeros(3), np.array([0.5, -0.5, 0.0]), 1.0)
    parts = [Sums(np.array([2.0, -0.5, 0.0]), loss=1.0), Sums(np.array([0.5, -0.5, 3.0]), loss=2.0, ratio=4.0)]
    merged = _merged(parts, batch)
    assert merged.signal_N.tolist() == [2.0, -0.5, 3.0]
    assert (merged.loss, merged.ratio) == (3.0, 4.0)
