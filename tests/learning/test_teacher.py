"""What SDPO's teacher reads, and the update that learns from it, against rows written out one by one."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from tests.learning.test_update import FILES, gradients, row_by_row, tables
from vegflow.config.learning import LoraConfig, UpdateConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.learning.learner import Learner
from vegflow.learning.teacher import lectures, paper_feedback, teacher_prompts
from vegflow.learning.update import make_batch, update

TARGETS = ("q_proj", "v_proj", "down_proj")
CORRECT = {"status": "correct", "correct": True, "reason": "", "speedup": 2.0, "runtime_us": 5.0, "reference_us": 10.0}
WRONG = {
    "status": "wrong_output",
    "correct": False,
    "reason": "values differ",
    "speedup": 0.0,
    "runtime_us": None,
    "reference_us": None,
}


class Letters:
    """A tokenizer of one token a character, with a chat template: <user text | answer follows>."""

    def encode(self, text, add_special_tokens=True):
        return [ord(c) for c in text]

    def decode(self, ids):
        return "".join(map(chr, ids))

    def apply_chat_template(self, messages, add_generation_prompt, tokenize):
        return "<s>" + "".join(f"<{m['role']}>{m['content']}</>" for m in messages) + "<assistant>"


def rows_of(style, *completions):
    prompt = (
        "<s><user>Make it fast.\n</><assistant>"
        if style == "chat"
        else "class ModelNew(Model):\n    def forward(self, x):\n"
    )
    return [
        {
            "rollout_id": f"r:{i}",
            "task_id": "L1/1",
            "completion": text,
            "prompt_ids": Letters().encode(prompt),
            "token_ids": Letters().encode(text),
        }
        for i, text in enumerate(completions)
    ]


def prompts(form, style, rows, verdicts):
    made = teacher_prompts(rows, verdicts, form, Letters(), style)
    return [None if ids is None else Letters().decode(ids) for ids in made]


def test_the_prompt_form_is_the_prompt_and_a_sentence():
    found = prompts("prompt", "chat", rows_of("chat", "a", "b"), [CORRECT, WRONG])
    assert found == ["<s><user>Make it fast.\n\nCorrectly solve the original question.\n</><assistant>"] * 2


def test_the_feedback_form_is_the_papers():
    _, wrong = prompts("feedback", "chat", rows_of("chat", "a", "b"), [CORRECT, WRONG])
    assert wrong == (
        "<s><user>Make it fast.\n\n"
        "The following is feedback from your unsuccessful earlier attempt:\n"
        "EXECUTION_FEEDBACK\nstatus=runtime_error\ncompiled=True\ncorrect=False\nspeedup=0.0000\nruntime_us=0.00\n"
        "ref_runtime_us=0.00\nerror_message=values differ\n\n"
        "Correctly solve the original question.\n</><assistant>"
    )


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (CORRECT, "status=success"),
        ({**CORRECT, "speedup": 1.0}, "status=correct_but_slow"),
        ({**WRONG, "status": "compile_error"}, "status=compilation_error"),
        ({**WRONG, "status": "parse_error"}, "compiled=False"),
        ({**WRONG, "reason": ""}, "status=incorrect_output"),
        ({**WRONG, "reason": "a\n b \n\nc\nd"}, "error_message=a | b | c"),
        ({**WRONG, "reason": "x" * 400}, "error_message=" + "x" * 297 + "..."),
        (CORRECT, "runtime_us=5.00"),
    ],
)
def test_feedback_follows_the_verdict(verdict, line):
    assert line in paper_feedback(verdict).splitlines()


def test_the_official_form_shows_another_success_or_feedback_or_nothing():
    rows = rows_of("chat", "<think>hm</think>\nfirst", "second", "third")
    first, second, third = prompts("solution", "chat", rows, [CORRECT, WRONG, CORRECT])
    assert "Correct solution:\n\nthird\n\nCorrectly" in first
    assert "Correct solution:\n\nfirst\n\nCorrectly" in second
    assert "Correct solution:\n\nfirst\n\nCorrectly" in third
    assert "EXECUTION_FEEDBACK" not in second
    alone = prompts("solution", "chat", rows, [WRONG, CORRECT, WRONG])
    assert alone[1] is None
    assert "Correct solution:\n\nsecond" in alone[0]
    nobody = prompts("solution", "chat", rows, [WRONG, WRONG, WRONG])
    assert all("EXECUTION_FEEDBACK" in text and "Correct solution" not in text for text in nobody)


def test_a_success_of_another_task_is_no_solution():
    rows = rows_of("chat", "a", "b")
    rows[1]["task_id"] = "L1/2"
    assert "Correct solution" not in prompts("solution", "chat", rows, [WRONG, CORRECT])[0]


def test_code_that_is_continued_gets_comments():
    (found,) = prompts("prompt", "compact", rows_of("compact", "return x"), [CORRECT])
    assert found == (
        "class ModelNew(Model):\n    def forward(self, x):\n        # Correctly solve the original question.\n"
    )


def test_a_prompt_that_no_chat_template_made_is_refused():
    with pytest.raises(
        ConfigError, match="the prompt of r:0 does not end as the model's chat template ends a question"
    ):
        prompts("prompt", "chat", rows_of("compact", "a"), [CORRECT])


def test_lectures_share_what_the_prompts_share():
    rows = [{"token_ids": [7]}, {"token_ids": [8, 9]}, {"token_ids": [5]}, {"token_ids": [6]}]
    made = lectures(rows, [[1, 2, 3], [1, 2, 4, 5], None, [1, 2, 3]], [0, 1, 2, 3])
    assert made.common == [1, 2]
    assert made.branches == [[3, 7], [4, 5, 8, 9], None, [3, 6]]
    assert made.read == [1, 2, 0, 1]


# ---- the update -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_llama):
    folder = tmp_path_factory.mktemp("model")
    tiny_llama.save_pretrained(folder)
    return {"location": str(folder), "revision": None, "dtype": "float32", "lora_targets": TARGETS}


def setting(options, tiny_llama, **changes):
    """A learner off its rollouts' policy (it has taken a step), its batch, and prompts for all but one rollout."""
    config = UpdateConfig(learning_rate=0.01, lora=LoraConfig(rank=4, alpha=8), max_gradient_norm=1e9, **changes)
    learner = Learner.load(options, config, None, None, init_key=("test", 0))
    batch = make_batch(*tables(tiny_llama), config)
    teachers = [[*row["prompt_ids"], *([90, 91, 92] if i % 2 else [93])] for i, row in enumerate(batch.rows)]
    teachers[2] = None
    update(learner, batch, teachers)
    return learner, batch, teachers


def logits_of(policy, prompt, tokens):
    return policy(input_ids=torch.tensor([prompt + tokens])).logits[0][len(prompt) - 1 : -1] / 0.5


def averaged(options, learner, twin):
    """A copy of `twin` whose adapter is a quarter of the way from the fresh one to the present one."""
    fresh = Learner.load(options, learner.config, None, None, init_key=("test", 0))
    teacher = copy.deepcopy(twin)
    own = dict(teacher.named_parameters())
    with torch.no_grad():
        for name, first in zip(fresh.names, fresh.parameters, strict=True):
            own[name].copy_(0.75 * first + 0.25 * own[name])
    return teacher


@pytest.mark.parametrize("who", ["student", "base", "average"])
@pytest.mark.parametrize("loss", ["sdpo_paper", "sdpo_sampled_token", "sdpo_divergence"])
def test_distillation_is_its_equation(options, tiny_llama, loss, who):
    changes = {"importance_cap": 1.05} if loss != "sdpo_paper" else {}
    objective = "sdpo_paper_feedback" if loss == "sdpo_paper" else "sdpo_official"
    learner, batch, teachers = setting(
        options,
        tiny_llama,
        objective=objective,
        loss=loss,
        aggregation="token_mean",
        distillation={"top_k": 6, "alpha": 0.3} | ({"teacher_rate": 0.25} if who == "average" else {"policy": who}),
        **changes,
    )
    twin = copy.deepcopy(learner.policy)
    reader = averaged(options, learner, twin) if who == "average" else twin
    seen, _ = gradients(learner)
    record = update(learner, batch, teachers)
    total = sum(len(row["token_ids"]) for row, prompt in zip(batch.rows, teachers, strict=True) if prompt)
    whole = torch.zeros(())
    for row, prompt, (logp, _) in zip(batch.rows, teachers, row_by_row(twin, batch, 0.5), strict=True):
        if prompt is None:
            continue
        with torch.no_grad():
            if who == "base":
                with twin.disable_adapter():
                    taught_logits = logits_of(twin, prompt, row["token_ids"])
            else:
                taught_logits = logits_of(reader, prompt, row["token_ids"])
        q = taught_logits.softmax(-1)
        old = torch.tensor(row["token_logprobs_tempered"])
        drawn = torch.tensor(row["token_ids"])
        taught = q.log().gather(1, drawn[:, None])[:, 0]
        weight = (logp - old).exp().detach().clamp(max=1.05)
        if loss == "sdpo_paper":
            terms = -(logp - old).exp() * (taught - old)
        elif loss == "sdpo_sampled_token":
            terms = weight * (logp - taught).detach() * logp
        else:
            p = logits_of(twin, row["prompt_ids"], row["token_ids"]).softmax(-1)
            best = p.topk(6).indices
            s, t = (torch.cat([x.gather(1, best), 1 - x.gather(1, best).sum(1, keepdim=True)], 1) for x in (p, q))
            m = 0.7 * s + 0.3 * t
            terms = weight * (0.7 * (s * (s / m).log()).sum(1) + 0.3 * (t * (t / m).log()).sum(1))
        whole = whole + terms.sum() / total
    twin.zero_grad()
    whole.backward()
    expected = {name: p.grad for name, p in twin.named_parameters() if p.requires_grad}
    flat = [torch.cat([g[name].flatten() for name in sorted(expected)]) for g in (seen, expected)]
    assert record["loss"] == pytest.approx(whole.item(), rel=1e-4, abs=1e-6)
    assert flat[1].norm() > 0
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()


def test_teacher_tokens_are_counted(options, tiny_llama):
    learner, batch, teachers = setting(options, tiny_llama, objective="sdpo_official")
    record = update(learner, batch, teachers)
    pairs = zip(teachers, batch.rows, strict=True)
    assert record["teacher_tokens"] == sum(len(p) + len(row["token_ids"]) for p, row in pairs if p is not None)
    assert record["stepped"]


def test_distillation_without_prompts_is_an_error(options, tiny_llama):
    learner, batch, _ = setting(options, tiny_llama, objective="sdpo_official")
    with pytest.raises(VegflowError, match="loss 'sdpo_divergence' needs the teacher's prompts"):
        update(learner, batch)


def test_a_teacher_that_follows_goes_along_a_trajectory(options, tiny_llama, tmp_path):
    changes = {"objective": "sdpo_official", "distillation": {"teacher_rate": 0.25}}
    learner, batch, teachers = setting(options, tiny_llama, **changes)
    learner.save(tmp_path / "1")
    update(learner, batch, teachers)
    learner.save(tmp_path / "2")
    resumed = Learner.load(options, learner.config, tmp_path / "1" / FILES[0], None, init_key=("test", 0))
    resumed.restore(load_file(tmp_path / "1" / FILES[1]))
    update(resumed, batch, teachers)
    resumed.save(tmp_path / "resumed")
    for file in FILES:
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_a_teacher_that_is_not_the_student_cannot_follow_it():
    with pytest.raises(
        ValueError, match="teacher_rate is for a teacher that follows the student, not for policy 'base'"
    ):
        UpdateConfig(objective="sdpo_official", distillation={"policy": "base", "teacher_rate": 0.05})


def test_equal_inputs_give_equal_bytes(options, tiny_llama, tmp_path):
    for name in ("a", "b"):
        learner, batch, teachers = setting(options, tiny_llama, objective="sdpo_official")
        update(learner, batch, teachers)
        learner.save(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
