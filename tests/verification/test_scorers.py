"""A reward model that is really run ranks as its stored scores do."""

import pytest

from tests.learning.reward_scenario import planted, settings
from tests.models.families import tiny_model
from tests.verification.small_functions import entry
from tests.verification.small_pool import CONFIG, TASKS, collected
from vegflow.artifacts.reward_model import completion_digest
from vegflow.errors import ArtifactError
from vegflow.learning.reward_examples import make_examples
from vegflow.learning.reward_pool import pool_examples
from vegflow.learning.reward_training import train
from vegflow.verification.executor import Entry
from vegflow.verification.run import run_pipelines
from vegflow.verification.scorers import RewardScorer

SCORER = "orm.bradley_terry"


class Letters:
    """A tokenizer of one token a character, as far as scoring needs one."""

    eos_token_id = 0

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [2 + ord(letter) % 95 for letter in text]}


def start():
    return tiny_model("llama"), Letters()


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    examples = pool_examples(collected().pool, TASKS, Letters())
    trained = train(start()[0], examples, settings(folds=2), "orm")
    file = tmp_path_factory.mktemp("orm") / "model.safetensors"
    trained.model.save(file)
    return RewardScorer(SCORER, file, start, tasks=TASKS), trained.held_out


def test_functions_are_tokenised_and_scored_as_when_they_were_held_out(functions):
    scorer, held_out = functions
    scorer.load()
    entries = [Entry.of(row) for row in collected().pool]
    stored = {(r["task_id"], r["completion_sha256"]): r["score"] for r in held_out if r["scorer"] == SCORER}
    wanted = [stored[each.task_id, each.sha256] for each in entries]
    assert scorer.score(entries) == pytest.approx(wanted, abs=1e-4)


def test_kernels_are_scored_by_the_tokens_that_were_drawn(tmp_path):
    rollouts, evaluations = planted(tasks=4, k=6)
    trained = train(start()[0], make_examples(rollouts, evaluations, "correct"), settings(folds=2), "orm")
    trained.model.save(tmp_path / "model.safetensors")
    scorer = RewardScorer(SCORER, tmp_path / "model.safetensors", start, rollouts=rollouts)
    scorer.load()
    row = rollouts[7]
    key = row["task_id"], completion_digest(row["completion"])
    (wanted,) = [
        r["score"] for r in trained.held_out if (r["task_id"], r["completion_sha256"], r["scorer"]) == (*key, SCORER)
    ]
    known = Entry(*key, None, row["completion"], 1, None)
    assert scorer.score([known]) == pytest.approx([wanted], abs=1e-4)
    with pytest.raises(ArtifactError, match="there is no rollout of L1/99 for 1 candidates to score"):
        scorer.score([Entry("L1/99", key[1], None, "", 1, None)])


def test_a_scorer_that_was_not_trained_is_named(functions):
    other = RewardScorer("orm.none", functions[0]._file, start, tasks=TASKS)
    other.load()
    with pytest.raises(ArtifactError, match=r"there is no scorer orm\.none in it"):
        other.score([entry(TASKS["T/add"], "    return 1\n")])


def test_running_it_counts_loading_as_the_fixed_part(functions):
    scorer, _ = functions
    config = CONFIG.model_copy(update={"pipelines": {"ranked": ({"orm": "top 1"},)}, "repeats": 1})
    measured = run_pipelines(*collected(), {}, TASKS, config, scorers={"orm": scorer})
    (row,) = [row for row in measured.runs if row["pipeline"] == "ranked"]
    (stage,) = [stage for stage in measured.stage_runs if stage["pipeline"] == "ranked"]
    assert row["fixed_s"] > 0
    assert (stage["stage"], stage["n_in"], stage["n_kept"]) == ("orm: top 1", len(collected().pool), len(TASKS))
    assert stage["cpu_s"] > 0
