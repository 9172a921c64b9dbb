"""A model's file: what it must say, and what is found out before any job."""

import re

import pytest
import yaml

from tests.config.test_study import GOOD, changed
from vegflow.config.model import load_model_config
from vegflow.errors import ConfigError
from vegflow.options import JobOptions
from vegflow.plan import Study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "say where the model is: one of path, hub or build"),
        ("hub: a/b", "hub needs revision, the commit to use"),
        ("path: nowhere/at/all", "nowhere/at/all holds no config.json and is no .gguf file; is the path right?"),
        ("paht: x", "paht: unknown key"),
        ("build: {corpus: level9}", "build.corpus: there is no resources/corpus/level9.yaml"),
        ("build: {corpus: level1, tasks: [L1/900]}", "build.tasks: there is no built-in task 'L1/900'"),
        ("path: x\nlora_targets: [q_proj, lm_head]", "lora_targets: an adapter on lm_head is left out by engines"),
        ("build: {corpus: level1, layers: 0}", "build.layers: input should be greater than or equal to 1"),
        ("path: x\nlearning: {shard: true}", "learning: shard needs more processes than one"),
        ("path: x\ndevice_map: auto\nlearning: {processes: 2}", "processes and device_map do not go together"),
        ("path: x\nattention: flex", "'flex' needs a GPU"),
        ("path: x\ngpus: 1\nattention: branches", "'branches' is for a CPU"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_sentence(root, tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Study(changed(("model",), str(file)), root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_local_folder_is_the_model_and_needs_no_build(root, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "mine.yaml"
    file.write_text(f"path: {tmp_path}")
    study = Study(changed(("model",), str(file)), root)
    assert study.model_location == str(tmp_path)
    assert study.model_files == [str(tmp_path / "config.json")]


@pytest.mark.parametrize(
    ("learning", "start", "memory"),
    [
        ("{}", "python -m vegflow.warm", 20000),
        ("{processes: 4}", "python -m torch.distributed.run --standalone --nproc-per-node 4 -m -- vegflow.warm", 80000),
        (
            "{processes: 4, shard: true}",
            "python -m torch.distributed.run --standalone --nproc-per-node 4 -m -- vegflow.warm",
            20000,
        ),
    ],
)
def test_the_model_s_file_says_how_many_processes_learn(root, tmp_path, learning, start, memory):
    """What samples is not touched by it; what learns is told, and made again, because sums in another order are other bytes."""
    file = tmp_path / "mine.yaml"
    told = []
    for text in ("{}", learning):
        file.write_text(f"hub: a/b\nrevision: c0ffee\nmemory_gb: 10\nlearning: {text}")
        study = Study(changed(("model",), str(file)), root)
        options = JobOptions(study)
        policy, cell = next(iter(study.policies)), next(iter(study.cells))
        told.append((options.sample(cell), options.update(policy)))
    assert (study.update_command, study.update_memory_mb) == (start, memory)
    assert told[0][0] == told[1][0]
    assert (told[0][1] == told[1][1]) == (learning == "{}")


def test_a_model_on_the_hub_is_pinned_and_has_no_files(root, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("hub: a/b\nrevision: c0ffee")
    study = Study(changed(("model",), str(file)), root)
    assert study.model_files == []
    assert study.model_location == "a/b"


def test_the_full_scaffold_needs_a_chat_prompt(root):
    with pytest.raises(ConfigError, match=r"sampling\.scaffold: 'full' needs a chat prompt"):
        Study(changed(("sampling",), {"scaffold": "full"}), root)
    assert Study(GOOD, root).prompt == "compact"


def test_every_model_that_ships_is_valid_and_pinned_to_a_commit(root):
    files = sorted((root / "resources" / "models").glob("*.yaml"))
    assert len(files) >= 7
    for file in files:
        model = load_model_config(file.stem, root)
        assert model.build or re.fullmatch(r"[0-9a-f]{40}", model.revision), file.name
        assert model.build or model.memory_gb, file.name
        assert (root / "resources" / "prompts" / f"{model.prompt}.yaml").exists(), file.name


@pytest.mark.parametrize("name", ["qwen-coder", "smollm2"])
def test_a_model_is_known_by_its_files_name_whatever_dots_are_in_it(root, name):
    raw = yaml.safe_load((root / "resources" / "studies" / f"{name}.yaml").read_text())
    study = Study(raw, root)
    assert study.model_name == raw["model"]
    assert study.model_files == []
    assert study.memory_mb == study.model_mb >= 2000


VLLM = {"engine": "vllm", "temperature": 0.5, "max_tokens": 64}


@pytest.mark.parametrize(
    ("file", "more", "message"),
    [
        ("path: GGUF\n", {}, "sampling.engine: vLLM does not read GGUF files by itself"),
        ("path: FOLDER\nvllm: {max_model_len: 64}\n", {}, "sampling.max_tokens: 64 leaves no room for a prompt"),
        ("path: FOLDER\n", {"rank": 513}, "trajectories.t.lora.rank: vLLM takes at most 512, not 513"),
        (
            "path: FOLDER\n",
            {"expert_parameters": ["mlp.experts.down_proj"]},
            "trajectories.t.lora.expert_parameters: vLLM does not take adapters of parameters that are no modules",
        ),
    ],
)
def test_what_vllm_cannot_do_is_refused_when_the_study_is_checked(root, tmp_path, file, more, message):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "own.gguf").write_text("")
    text = file.replace("GGUF", str(tmp_path / "own.gguf")).replace("FOLDER", str(tmp_path))
    (tmp_path / "own.yaml").write_text(text)
    trajectories = {"t": {"tasks": "subset1", "steps": 1, "lora": more}}
    raw = {"study": "s", "model": str(tmp_path / "own.yaml"), "sampling": VLLM, "trajectories": trajectories}
    with pytest.raises(ConfigError) as caught:
        Study(raw, root)
    assert message in str(caught.value)
    raw["sampling"] = VLLM | {"engine": "transformers"}
    Study(raw, root)


HUGE = "hub: a/b\nrevision: c\nmemory_gb: 40\n"


@pytest.mark.parametrize(
    ("engine", "file", "gpus", "mb"),
    [
        ({}, "gpus: 0\n", 0, 40_000),
        ({}, "gpus: 4\ndevice_map: auto\n", 4, 40_000),
        ({"engine": "vllm"}, "gpus: 0\nvllm: {kv_cache_gb: 10}\n", 0, 40_000 + 10_737),
        ({"engine": "vllm"}, "gpus: 1\n", 1, 40_000),
        ({"engine": "vllm"}, "gpus: 4\ndevice_map: auto\nvllm: {tensor_parallel_size: 2}\n", 2, 40_000),
        ({"engine": "server", "url": "http://localhost:8000/v1"}, "gpus: 1\n", 0, 2_000),
    ],
)
def test_a_job_asks_for_what_its_engine_takes(root, tmp_path, engine, file, gpus, mb):
    """The model's file says it; a server has GPUs and memory of its own; updates run through Transformers whatever samples."""
    (tmp_path / "huge.yaml").write_text(HUGE + file)
    study = Study({"study": "s", "model": str(tmp_path / "huge.yaml"), "sampling": engine}, root)
    assert (study.sampling_gpus, study.sampling_mb) == (gpus, mb)
    assert study.sampling_model_mb == (0 if "url" in engine else 40_000)
    assert study.memory_mb == 40_000


def test_several_gpus_need_something_that_spreads_the_model(root, tmp_path):
    (tmp_path / "huge.yaml").write_text(HUGE + "gpus: 2\n")
    with pytest.raises(ConfigError, match="gpus: 2 need device_map"):
        load_model_config(str(tmp_path / "huge.yaml"), root)
