"""Demonstrations: correct programs of training tasks, as a model of this template would have written them."""

import pytest

from vegflow.artifacts.io import to_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.extract import extract_body
from vegflow.candidates.prompt import load_template
from vegflow.demonstrations import answer, demonstrate, honest, teachable
from vegflow.models.corpus import load_corpus
from vegflow.models.tiny import Lesson, train_tokenizer
from vegflow.tasks.catalogue import builtin_tasks

TASKS = builtin_tasks("cpu")
CELL = {"source": "warm", "seed": 42, "step": 3, "policy": "corpus/level1", "first": 0, "count": 64}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([Lesson("class ModelNew(Model):\n", ("return torch.relu(x)",), (1.0,))], 300)


@pytest.fixture
def compact(root):
    return load_template(root / "resources/prompts/compact.yaml")


@pytest.mark.parametrize("name", ["compact", "function", "reference", "chat"])
def test_what_is_shown_is_read_as_the_program_it_is(root, corpus, name):
    template = load_template(root / f"resources/prompts/{name}.yaml")
    for task, operation in (("L1/21", "sigmoid"), ("L1/40", "layer_norm")):
        for form in honest(corpus[operation]):
            shown = extract_body(answer(template, form.body, TASKS[task]), TASKS[task].arguments)
            assert shown == extract_body(form.body, TASKS[task].arguments)
            assert shown.code is not None


def test_a_body_is_indented_as_the_prompt_ends(root):
    """After the head of a method it stands deeper than that; after a docstring, as deep."""
    depths = {"compact": 8, "reference": 8, "function": 4}
    for name, depth in depths.items():
        template = load_template(root / f"resources/prompts/{name}.yaml")
        text = answer(template, "y = x\nreturn y", TASKS["L1/19"])
        assert text == f"{' ' * depth}y = x\n{' ' * depth}return y\n"


def test_rows_are_those_of_rollouts_that_nobody_drew(tokenizer, corpus, compact):
    rows = demonstrate(tokenizer, [TASKS["L1/19"]], corpus, compact, CELL)
    assert to_table(rows, ROLLOUTS).num_rows == 64
    assert [row["rollout_id"] for row in rows[:2]] == ["warm/seed42/step003:L1/19:0", "warm/seed42/step003:L1/19:1"]
    for row in rows:
        assert row["token_ids"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row["token_ids"][:-1]) == row["completion"]
        assert tokenizer.decode(row["prompt_ids"]).endswith("def forward(self, x):\n")
        assert (row["token_logprobs"], row["token_logprobs_tempered"], row["temperature"]) == ([], [], 1.0)


def test_forms_come_as_often_as_they_are_common_and_wrong_ones_never(tokenizer, corpus, compact):
    task, operation = TASKS["L1/19"], "relu"
    rows = demonstrate(tokenizer, [task], corpus, compact, CELL | {"count": 2000})
    forms = honest(corpus[operation])
    total = sum(form.frequency for form in forms)
    texts = [row["completion"] for row in rows]
    assert set(texts) <= {answer(compact, form.body, task) for form in forms}
    for form in forms:
        share = form.frequency / total
        error = 5 * (share * (1 - share) / len(rows)) ** 0.5
        assert texts.count(answer(compact, form.body, task)) / len(rows) == pytest.approx(share, abs=error)


def test_a_draw_depends_on_its_name_alone(tokenizer, corpus, compact):
    alone = demonstrate(tokenizer, [TASKS["L1/19"]], corpus, compact, CELL | {"first": 5, "count": 1})
    beside = demonstrate(tokenizer, [TASKS["L1/21"], TASKS["L1/19"]], corpus, compact, CELL)
    assert [row["token_ids"] for row in alone] == [
        row["token_ids"] for row in beside if row["rollout_id"] == alone[0]["rollout_id"]
    ]
    other = demonstrate(tokenizer, [TASKS["L1/19"]], corpus, compact, CELL | {"step": 4})
    assert [row["completion"] for row in other] != [row["completion"] for row in beside[64:]]


def test_no_program_of_an_evaluated_task_is_taught(corpus):
    """L1/56 is another convolution than L1/55, and a program of one is a program of the other."""
    tasks = {name: TASKS[name] for name in ("L1/55", "L1/56", "L1/19", "L1/21")}
    assert teachable(tasks, {"conv2d"}, corpus) == ("L1/19", "L1/21")
    assert teachable(tasks, set(), {"relu": corpus["relu"]}) == ("L1/19",)
