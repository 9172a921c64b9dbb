"""Finding and loading a model: a local folder before the hub, and what is wrong in one sentence, before anything is drawn."""

import http.server
import json
import threading

import huggingface_hub.constants
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vegflow.errors import ConfigError
from vegflow.models.load import load_model, load_tokenizer, stop_tokens
from vegflow.models.memory import check_memory, expected_gb
from vegflow.models.place import arguments

HUB = {"location": "owner/name", "revision": "c0ffee", "name": "mine-0.5b", "dtype": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_llama):
    """Models as VEGFLOW_MODELS names them, one in it: `mine-0.5b`."""
    root = tmp_path_factory.mktemp("models")
    words = {word: number for number, word in enumerate(["<end>", "<pad>", "<turn>", "a", "b"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    fast.save_pretrained(root / "mine-0.5b")
    tiny_llama.save_pretrained(root / "mine-0.5b")
    return root


def test_a_folder_of_models_is_looked_in_before_the_hub(folder, monkeypatch, tiny_llama):
    monkeypatch.setenv("VEGFLOW_MODELS", str(folder))
    model = load_model(HUB)
    torch.testing.assert_close(dict(model.state_dict()), dict(tiny_llama.state_dict()))
    assert load_tokenizer(HUB).encode("a b") == [3, 4]
    assert arguments(HUB | {"name": "another"}) == {"pretrained_model_name_or_path": "owner/name", "revision": "c0ffee"}


def test_a_gguf_file_is_a_folder_and_a_name(tmp_path, monkeypatch):
    (tmp_path / "mine-0.5b.gguf").touch()
    expected = {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": "mine-0.5b.gguf"}
    assert arguments({"location": str(tmp_path / "mine-0.5b.gguf"), "revision": None}) == expected
    monkeypatch.setenv("VEGFLOW_MODELS", str(tmp_path))
    assert arguments(HUB) == expected


def test_stop_tokens_are_the_tokenizers_the_models_and_those_of_its_file(folder):
    options = {"location": str(folder / "mine-0.5b"), "revision": None, "stop_tokens": ("<turn>",)}
    tokenizer = load_tokenizer(options)
    assert stop_tokens(options, tokenizer) == {0, 2}
    with pytest.raises(ConfigError, match="has no token '<im_end>'"):
        stop_tokens(options | {"stop_tokens": ("<im_end>",)}, tokenizer)


def test_a_path_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no model at .*: no config\.json and no \.gguf file"):
        load_model({"location": str(tmp_path), "revision": None, "dtype": "float32"})


ANSWERS = {
    "gated": (403, "GatedRepo", "gated"),
    "no such model": (404, "RepoNotFound", "not a valid model identifier"),
    "no such revision": (404, "RevisionNotFound", "not a valid git identifier"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_the_hub_refuses_is_one_sentence(answer, monkeypatch, tmp_path):
    status, code, words = ANSWERS[answer]

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error": answer}).encode()
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.delenv("VEGFLOW_MODELS", raising=False)
        for load in (load_tokenizer, load_model):
            with pytest.raises(ConfigError) as caught:
                load(HUB)
            assert words in str(caught.value)
            assert "'owner/name' cannot be loaded" in str(caught.value)
            assert "\n" not in str(caught.value)
        server.shutdown()


def test_memory_is_reckoned_from_the_files_and_the_type_they_are_loaded_as(folder, tmp_path):
    size = (folder / "mine-0.5b" / "model.safetensors").stat().st_size / 1e9
    assert expected_gb(folder / "mine-0.5b", "float32") == pytest.approx(size)
    assert expected_gb(folder / "mine-0.5b", "bfloat16") == pytest.approx(size / 2)
    assert expected_gb(tmp_path, "float32") == 0


def test_too_little_memory_is_one_sentence_before_loading(folder):
    options = {"location": str(folder / "mine-0.5b"), "revision": None, "dtype": "float32"}
    with pytest.raises(ConfigError, match=r"needs about 1e\+06 GB and .* GB are free on this machine; take a smaller"):
        check_memory("mine", 1e6, "cpu")
    with (folder / "mine-0.5b" / "more.bin").open("wb") as file:
        file.truncate(10**13)  # a sparse file: ten terabytes that take no room
    with pytest.raises(ConfigError, match=r"model mine-0.5b needs about 1e\+04 GB"):
        load_model(options)
    (folder / "mine-0.5b" / "more.bin").unlink()
    check_memory("none at all", 0.0, "cpu")
