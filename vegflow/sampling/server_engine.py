"""The engine `server`: vLLM as a running server, over its OpenAI-compatible interface.

Knows the interface's requests and answers; HTTP is `vegflow.sampling.server_client`. A server returns one log-probability a
token: that at the sampling temperature, if it was started with `--logprobs-mode processed_logprobs`. That at temperature 1 is
had by scoring each completion after it was drawn, unless the sampling temperature is 1.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Self

from vegflow.config.engines import ServerConfig
from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.models.load import load_tokenizer, stop_tokens
from vegflow.sampling.outside import Adapter, check_lengths, cut_at_stop_text, read_adapter, seed_of
from vegflow.sampling.protocol import Completion, Key, Request
from vegflow.sampling.server_client import Client, RefusedError
from vegflow.sampling.stopping import Stopping

SERVER = "VEGFLOW_SERVER"
"""Environment variable: the server's address where it is not that of the study, which stays what it was."""
HOT = 2.0
"""The highest temperature that a server takes, to see whether its log-probabilities are those of the temperature."""


class ServerEngine:
    """A model that a server holds, under the name that the server has for it."""

    def __init__(
        self, client: Client, model: str, most: int, tokenizer: Any, stop: frozenset[int], places: int
    ) -> None:
        self.client, self.base, self.most = client, model, most
        self.tokenizer, self.stop, self.places = tokenizer, stop, places
        self.model = model
        self._tempers: bool | None = None

    def use(self, adapter: str | Path | None) -> None:
        """Take this adapter from now on; a server that does not have it yet reads it from the same path.

        Raises ConfigError if the server does not load adapters while it runs.
        """
        if adapter is None:
            self.model = self.base
            return
        wanted = read_adapter(adapter)
        if wanted.name not in served(self.client):
            self._lend(wanted)
        self.model = wanted.name

    def draw(self, requests: Sequence[Request], config: SamplingConfig) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """See `protocol.Engine`; what is drawn beside a completion is the server's business, so equal seeds give equal
        completions up to rounding alone.

        Raises ConfigError if the server does not return log-probabilities at the sampling temperature.
        """
        check_lengths([request.prompt_ids for request in requests], config.max_tokens, self.most, "the server")
        if config.temperature != 1 and requests:
            self._must_temper(requests[0].prompt_ids)
        stopping = Stopping(self.tokenizer, self.stop, config.stop)
        pool = ThreadPoolExecutor(config.batch_size)
        try:
            places = {
                pool.submit(self._complete, request.prompt_ids, key, config, stopping): (number, place)
                for number, request in enumerate(requests)
                for place, key in enumerate(request.keys)
            }
            done: dict[int, dict[int, Completion]] = {}
            for future in as_completed(places):
                number, place = places[future]
                completions = done.setdefault(number, {})
                completions[place] = future.result()
                if len(completions) == len(requests[number].keys):
                    yield number, tuple(completions[i] for i in range(len(completions)))
        finally:
            pool.shutdown(cancel_futures=True)

    def score(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities at temperature 1. The server reads the prompt for each completion; equal ones are read once."""
        unique = list(dict.fromkeys(map(tuple, completions)))
        check_lengths([(*prompt_ids, *tokens) for tokens in unique], 1, self.most, "the server")
        with ThreadPoolExecutor(self.places) as pool:
            scored = pool.map(lambda tokens: self._score(prompt_ids, tokens), unique)
            found = dict(zip(unique, scored, strict=True))
        return [found[tuple(tokens)] for tokens in completions]

    def close(self) -> None:
        """Nothing: the server goes on, with the adapters it has."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _lend(self, adapter: Adapter) -> None:
        """Have the server load an adapter; another job may have done so by now."""
        try:
            self.client.ask("/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.folder)})
        except RefusedError as error:
            if adapter.name in served(self.client):
                return
            if not str(error).endswith("Not Found"):
                raise
            raise ConfigError(
                f"the server at {self.client.url} does not load adapters while it runs; start it with --enable-lora and "
                f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with --lora-modules {adapter.name}={adapter.folder}"
            ) from error

    # ---- requests -------------------------------------------------------------------------------------------------

    def _complete(self, prompt: tuple[int, ...], key: Key, config: SamplingConfig, stopping: Stopping) -> Completion:
        said = self._choice(
            prompt,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k or 0,
            min_p=config.min_p,
            seed=seed_of(key),
            stop=list(config.stop),
            logprobs=0,
        )
        tokens, reason = cut_at_stop_text(said["token_ids"], said["finish_reason"], stopping)
        if reason not in ("stop", "length"):
            raise VegflowError(f"the server at {self.client.url} ended a completion with '{reason}'")
        drawn = said["logprobs"]["token_logprobs"][: len(tokens)]
        raw = drawn if config.temperature == 1 and not config.filters else self._score(prompt, tokens)
        tempered = raw if config.temperature == 1 else drawn
        return Completion(tuple(tokens), tuple(raw), tuple(tempered), reason)

    def _score(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        said = self._choice((*prompt, *tokens), max_tokens=1, temperature=1, prompt_logprobs=0, seed=0)
        places = (said.get("prompt_logprobs") or [])[-len(tokens) :]
        if len(places) != len(tokens):
            raise ConfigError(f"the server at {self.client.url} does not return prompt_logprobs, which scoring needs")
        return [place[str(token)]["logprob"] for place, token in zip(places, tokens, strict=True)]

    def _choice(self, prompt: Sequence[int], **settings: Any) -> dict[str, Any]:
        """The one choice of a completion. Token ids go there and come back as such: no text is tokenised on the way."""
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "stop_token_ids": sorted(self.stop),
            "ignore_eos": True,  # stop_token_ids has it
            "add_special_tokens": False,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        said = self.client.ask("/completions", body | settings)["choices"][0]
        if said.get("token_ids") is None or said.get("prompt_token_ids") != list(prompt):
            raise ConfigError(
                f"the server at {self.client.url} does not return the token ids of prompt and completion "
                "(return_token_ids); it must be vLLM 0.10.2 or newer"
            )
        return said

    def _must_temper(self, prompt: Sequence[int]) -> None:
        """Raise ConfigError unless log-probabilities are those at the sampling temperature.

        The distance between the likeliest and the fifth token is then half as large at temperature 2 as at 1, else as large.
        """
        if self._tempers is None:
            spread = {}
            for temperature in (1.0, HOT):
                said = self._choice(prompt, max_tokens=1, temperature=temperature, logprobs=5, seed=0)
                likeliest = sorted(said["logprobs"]["top_logprobs"][0].values())[-5:]
                spread[temperature] = likeliest[-1] - likeliest[0]
            self._tempers = spread[HOT] <= 0.75 * spread[1.0]
        if not self._tempers:
            raise ConfigError(
                f"the server at {self.client.url} returns log-probabilities at temperature 1 alone; start it with "
                "--logprobs-mode processed_logprobs, or set sampling.temperature to 1"
            )


def served(client: Client) -> dict[str, dict[str, Any]]:
    """What the server offers, by name: models and adapters."""
    try:
        answer = client.ask("/models")
    except RefusedError as error:
        if error.status != 404:
            raise
        answer = None
    if not isinstance(answer, dict) or "data" not in answer:
        raise ConfigError(f"what answers at {client.url} is no OpenAI-compatible server; sampling.url ends in /v1")
    return {entry["id"]: entry for entry in answer["data"]}


def _models(offers: Mapping[str, Mapping[str, Any]]) -> str:
    """Names of the base models among what a server offers; adapters have a parent."""
    return ", ".join(sorted(name for name, entry in offers.items() if not entry.get("parent"))) or "no model"


def load(options: Mapping[str, Any], sampling: SamplingConfig, device: str) -> ServerEngine:
    """The engine with the base model of `options`, whose `server` are ServerConfig's settings; `device` is the server's.

    Raises ConfigError or VegflowError, in a sentence, if the server is absent, wants a key or has another model.
    """
    settings = ServerConfig(**(options.get("server") or {}))
    key = settings.key_variable and os.environ.get(settings.key_variable)
    if settings.key_variable and not key:
        raise ConfigError(f"server.key_variable: the environment variable {settings.key_variable} is not set")
    client = Client(os.environ.get(SERVER) or sampling.url, key, settings.timeout_s, retries=0)
    name, offers = settings.model or options["location"], served(client)
    client.retries = settings.retries
    if name not in offers:
        raise ConfigError(
            f"the server at {client.url} has {_models(offers)} and not {name}; start it with that "
            "model, or say in the model's file what it is called there (server.model)"
        )
    most = offers[name].get("max_model_len")
    if most is None:
        raise ConfigError(f"the server at {client.url} does not say its max_model_len; it must be vLLM's")
    tokenizer = load_tokenizer(options)
    return ServerEngine(client, name, most, tokenizer, stop_tokens(options, tokenizer), sampling.batch_size)
