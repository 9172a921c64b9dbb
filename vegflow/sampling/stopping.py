"""When a completion is at its end: stop tokens and stop texts.

Knows token ids and how they are decoded; every engine of ours and the cutting of texts go through here.
"""

from collections.abc import Sequence
from typing import Any

TAIL = 4
"""Tokens beyond the longest stop text's characters that are decoded again: a character may take several tokens."""


class Stopping:
    """Tells whether a token ends a completion."""

    def __init__(self, tokenizer: Any, tokens: frozenset[int], texts: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.texts = tuple(texts)
        self._window = max(map(len, texts), default=0) + TAIL

    def ended(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token is a stop token or the text holds a stop text with its end in the last tokens."""
        if token_ids[-1] in self.tokens:
            return True
        if not self.texts:
            return False
        tail = self.tokenizer.decode(list(token_ids[-self._window :]), skip_special_tokens=True)
        return any(text in tail for text in self.texts)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop text in it."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text
