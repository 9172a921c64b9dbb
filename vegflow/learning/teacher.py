"""What SDPO's teacher reads: the prompt of a rollout with a section more, from the stored rollouts and verdicts alone.

The teacher is the same model on another prompt. The section is put at the end of the task's own prompt (of a chat: at the
end of the user's message), as tokens between the stored ones, so that teacher and student share them and the same
artifacts always give the same prompt.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vegflow.config.learning import TeacherName
from vegflow.errors import ConfigError

Row = Mapping[str, Any]
MOST_TOKENS = 10240
"""A teacher's prompt is cut to this, at the end of its section (lasgroup/SDPO: max_reprompt_len)."""
CLOSING = "Correctly solve the original question."
ATTEMPT = "The following is feedback from your unsuccessful earlier attempt:"
COMMENT = " " * 8 + "# "
"""For a model that continues code, the section is comments at the head of the body that it continues."""
MARK = "\N{WHITE SQUARE}"


@dataclass(frozen=True)
class Lectures:
    """The teacher's readings of a group's rollouts: a common beginning, then each one's own end and its completion."""

    common: list[int]
    branches: list[list[int] | None]
    """The rest of its prompt and the completion, by rollout of the group; None for one without a teacher."""
    read: list[int]
    """Tokens of a branch that belong to the prompt."""


def lectures(rows: Sequence[Row], prompts: Sequence[Sequence[int] | None], group: Sequence[int]) -> Lectures:
    """The readings of the rollouts `group`, packed behind the longest beginning that their prompts share."""
    own = [prompts[i] for i in group if prompts[i] is not None]
    shared = _shared(own)
    branches: list[list[int] | None] = []
    read = []
    for i in group:
        prompt = prompts[i]
        read.append(len(prompt) - shared if prompt is not None else 0)
        branches.append([*prompt[shared:], *rows[i]["token_ids"]] if prompt is not None else None)
    return Lectures(list(own[0][:shared]) if own else [], branches, read)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning."""
    if not prompts:
        return 0
    least, most = min(prompts), max(prompts)
    for place, (a, b) in enumerate(zip(least, most, strict=False)):
        if a != b:
            return place
    return min(len(least), len(most))


def teacher_prompts(
    rows: Sequence[Row], verdicts: Sequence[Row], form: TeacherName, tokenizer: Any, style: str
) -> list[list[int] | None]:
    """The teacher's prompt for each rollout, None where the form has nothing to say of one.

    `rows` and `verdicts` are sorted alike. `style` is that of the rollouts' prompts: `chat`, or another for a model that
    continues code. Raises ConfigError if a prompt is not what the tokenizer's chat template makes.
    """
    tail = _tail(tokenizer) if style == "chat" else []
    prompts: list[list[int] | None] = []
    for number in range(len(rows)):
        section = _section(rows, verdicts, number, form)
        if section is None:
            prompts.append(None)
            continue
        prompt = list(rows[number]["prompt_ids"])
        head = prompt[: len(prompt) - len(tail)]
        if tail and prompt[len(head) :] != tail:
            raise ConfigError(
                f"the prompt of {rows[number]['rollout_id']} does not end as the model's chat template ends a question, "
                "so there is no place for what the teacher is to read; take another model or an objective without teacher"
            )
        text = _break(tokenizer, head) + section + "\n" if style == "chat" else _comments(section)
        tokens = tokenizer.encode(text, add_special_tokens=False)
        prompts.append([*head, *tokens[: max(0, MOST_TOKENS - len(prompt))], *tail])
    return prompts


def _section(rows: Sequence[Row], verdicts: Sequence[Row], number: int, form: TeacherName) -> str | None:
    """What the teacher reads beside the prompt, or None."""
    if form == "prompt":
        return CLOSING
    if form == "feedback":
        return f"{ATTEMPT}\n{paper_feedback(verdicts[number])}\n\n{CLOSING}"
    solution = _other_success(rows, verdicts, number)
    if solution is not None:
        return f"Correct solution:\n\n{solution}\n\n{CLOSING}"
    if verdicts[number]["correct"]:
        return None
    return f"{ATTEMPT}\n\n{paper_feedback(verdicts[number])}\n\n{CLOSING}"


def _other_success(rows: Sequence[Row], verdicts: Sequence[Row], number: int) -> str | None:
    """The first correct completion of the task that is another rollout's, without thinking (lasgroup/SDPO)."""
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict["correct"] and row["task_id"] == rows[number]["task_id"] and row is not rows[number]:
            return re.sub(r"<think>.*?</think>\s*", "", row["completion"], flags=re.DOTALL).strip("\n")
    return None


def paper_feedback(verdict: Row) -> str:
    """A verdict in the words of the paper's code (src/utils/feedback_utils.py, `build_execution_feedback`).

    Two of its habits are kept: every failure that has a message is a `runtime_error` unless nothing could be compiled, and
    a time that was not taken is 0.
    """
    built = verdict["status"] not in ("parse_error", "compile_error")
    message = _short(verdict["reason"])
    if not built:
        status = "compilation_error"
    elif not verdict["correct"]:
        status = "runtime_error" if message else "incorrect_output"
    else:
        status = "success" if verdict["speedup"] > 1.0 else "correct_but_slow"
    lines = [
        "EXECUTION_FEEDBACK",
        f"status={status}",
        f"compiled={built}",
        f"correct={bool(verdict['correct'])}",
        f"speedup={verdict['speedup']:.4f}",
        f"runtime_us={verdict['runtime_us'] or 0.0:.2f}",
        f"ref_runtime_us={verdict['reference_us'] or 0.0:.2f}",
    ]
    return "\n".join([*lines, f"error_message={message}"] if message else lines)


def _short(text: str) -> str:
    """The first three lines, in one, of at most 300 characters."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()][:3]
    joined = " | ".join(lines)
    return joined if len(joined) <= 300 else joined[:297] + "..."


def _comments(section: str) -> str:
    return "".join(f"{COMMENT}{line}".rstrip() + "\n" for line in section.splitlines())


def _break(tokenizer: Any, head: Sequence[int]) -> str:
    """Newlines that put an empty line between a prompt and its section."""
    text = tokenizer.decode(list(head[-4:]))
    return "\n" * max(0, 2 - (len(text) - len(text.rstrip("\n"))))


def _tail(tokenizer: Any) -> list[int]:
    """Tokens that the chat template puts after the user's message: its end, and the head of the answer."""
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARK}], add_generation_prompt=True, tokenize=False
    )
    _, _, after = rendered.rpartition(MARK)
    return list(tokenizer.encode(after, add_special_tokens=False))
