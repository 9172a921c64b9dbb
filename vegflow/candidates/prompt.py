"""What a policy is asked: templates filled with a task, as the token ids a model reads.

Templates are files of `resources/prompts/`; the tokenizer is the model's and is not loaded here.
"""

from pathlib import Path
from typing import Any, Protocol

import yaml

from vegflow.errors import ConfigError
from vegflow.tasks.task import Task


class Tokenizer(Protocol):
    """What is needed of a tokenizer (transformers' fast tokenizers have it)."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...  # noqa: D102

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any: ...  # noqa: D102


def load_template(path: str | Path) -> dict[str, Any]:
    """The template in a file. Raises ConfigError if it is none."""
    template = yaml.safe_load(Path(path).read_text())
    if not isinstance(template, dict) or not ({"text"} <= template.keys() or {"body", "full"} <= template.keys()):
        raise ConfigError(f"{path}: a prompt template has the key 'text', or the keys 'body' and 'full'")
    return template


def stop_texts(template: dict[str, Any]) -> tuple[str, ...]:
    """Texts that end an answer to this template: what a body is followed by when the model goes on beyond it."""
    return tuple(template.get("stop", ()))


def prompt_text(template: dict[str, Any], task: Task) -> str:
    """The text that a code-continuing model completes."""
    return _fill(template["text"], task)


def prompt_ids(template: dict[str, Any], task: Task, scaffold: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a task's prompt: plain text, or messages through the tokenizer's own chat template."""
    if "text" in template:
        if scaffold != "body":
            raise ConfigError(f"sampling.scaffold: '{scaffold}' needs a chat prompt; this one asks for a body")
        return list(tokenizer.encode(prompt_text(template, task), add_special_tokens=False))
    messages = [{"role": role, "content": _fill(template[scaffold][role], task)} for role in ("system", "user")]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return list(ids)


def _fill(text: str, task: Task) -> str:
    values = {
        "name": task.name,
        "description": task.description,
        "arguments": ", ".join(task.arguments),
        "source": task.source.strip(),
    }
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text
