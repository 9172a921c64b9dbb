"""Triton's kernels: compiled by a confined build, found by a worker that can compile nothing.

Triton's compilers need no GPU, so where Triton is installed all but the launch is tried on any machine.
"""

import base64
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from vegflow.evaluation import triton_cache
from vegflow.evaluation.arena import Shape, describe_tensor
from vegflow.evaluation.build import build, compiler_identity, scratch
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.stage import Stage
from vegflow.evaluation.triton_cache import unpack
from vegflow.evaluation.verdict import Fault

pytestmark = pytest.mark.xdist_group("evaluator")
needs_triton = pytest.mark.skipif(not triton_cache.available(), reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

KERNEL = """\
import torch
import triton
import triton.language as tl

@triton.jit
def shift(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i, mask=i < n) + 1, mask=i < n)
"""
COMPILED = (
    KERNEL
    + """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

class ModelNew(torch.nn.Module):
    def forward(self, x):
        signature = {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"}
        source = ASTSource(fn=shift, signature=signature, constexprs={(3,): x.numel()})
        kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        return torch.full_like(x, len(kernel.asm["cubin"]))
"""
)
"""Compiles for a GPU that need not be there; each size of its input is another kernel."""
LAUNCHED = (
    KERNEL
    + """
class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        shift[(triton.cdiv(x.numel(), 256),)](x, y, x.numel(), BLOCK=256)
        return y
"""
)


def call(*sizes, device="cpu"):
    forms = [[describe_tensor(torch.empty(size))] for size in sizes]
    init = base64.b64encode(pickle.dumps([])).decode()
    return {"class_name": "ModelNew", "init": init, "init_seed": 0, "forms": forms, "device": device}


def pack(files, ptxas=None):
    blobs = [data for _, _, data in files]
    index = {"files": [[key, name, len(data)] for key, name, data in files], "ptxas": ptxas or {"90": "ptxas 13"}}
    text = json.dumps(index).encode()
    return len(text).to_bytes(triton_cache.HEADER, "big") + text + b"".join(blobs)


def test_a_pack_becomes_files_whose_paths_hold_where_they_are(tmp_path):
    group = json.dumps({"child_paths": {"add.cubin": "/elsewhere/KEY/add.cubin"}}).encode()
    assert unpack(pack([("KEY", "add.cubin", b"\x7fELF"), ("KEY", "__grp__add.json", group)]), tmp_path) == {
        "90": "ptxas 13"
    }
    assert (tmp_path / "KEY" / "add.cubin").read_bytes() == b"\x7fELF"
    moved = json.loads((tmp_path / "KEY" / "__grp__add.json").read_text())
    assert moved == {"child_paths": {"add.cubin": str(tmp_path / "KEY" / "add.cubin")}}


HOSTILE = {
    "a folder above": [("..", "a", b"x")],
    "a whole path": [("/tmp", "a", b"x")],
    "a file in a folder above": [("K", "../../a", b"x")],
    "a hidden name": [("K", ".profile", b"x")],
    "no name": [("K", "", b"x")],
    "a line more": [("K", "a\n", b"x")],
    "the same twice": [("K", "a", b"x"), ("K", "a", b"y")],
}


@pytest.mark.parametrize("files", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pack_writes_nothing(files, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(ValueError, match="no pack of kernels"):
        unpack(pack(files), folder)
    assert [path for path in tmp_path.rglob("*") if path != folder] == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        (1 << 60).to_bytes(8, "big"),
        pack([("K", "a", b"xyz")])[:-1],
        pack([("K", "a", b"xyz")]) + b"!",
        pack([]).replace(b"files", b"filez"),
        len(b"[" * 100_000).to_bytes(8, "big") + b"[" * 100_000,
        pack([]).replace(b'"90"', b'"\xff0"'),
    ],
)
def test_bytes_that_are_no_pack_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="no pack of kernels"):
        unpack(data, tmp_path)


@pytest.mark.parametrize("group", [b"{", b"[]", b'{"child_paths": 3}', b"\xff", b"[" * 100_000])
def test_a_group_that_is_none_is_left_to_triton(group, tmp_path):
    unpack(pack([("K", "__grp__a.json", group)]), tmp_path)
    assert (tmp_path / "K" / "__grp__a.json").read_bytes() == group


@pytest.mark.skipif(triton_cache.available(), reason="Triton is installed")
def test_without_triton_a_build_says_so():
    with pytest.raises(Fault, match="Triton is not installed") as found:
        build(shared_zygote("cpu"), COMPILED, "triton", call=call(128))
    assert found.value.status == "evaluator_error"
    with pytest.raises(Fault):
        compiler_identity("triton")


@pytest.fixture(scope="module")
def built():
    if not triton_cache.available():
        pytest.skip("Triton is not installed")
    return build(shared_zygote("cpu"), COMPILED, "triton", call=call(128, 256), timeout_s=120.0)


def ask(binary, *sizes, program=COMPILED):
    """What a confined worker with these kernels says for inputs of some sizes."""
    with scratch() as folder:
        kernels = {"folder": folder, "ptxas": unpack(binary, Path(folder))}
        worker = shared_zygote("cpu").spawn(60.0, 4 << 30, readable=folder)
        try:
            if any(what.startswith("lacking") for what in worker.layers.values()):
                pytest.skip(f"this machine lacks something: {worker.layers}")
            about = {"init": call()["init"], "init_seed": 0, "kernels": kernels}
            worker.ask("load", program=program, class_name="ModelNew", **about)
            stage = Stage(Shape(len(sizes), 4096, 4096), 0, "cpu")
            worker.map(stage)
            worker.stop()
            forms = {slot: (call(size)["forms"][0], call(size)["forms"][0]) for slot, size in enumerate(sizes)}
            worker.prepare(forms)
            block = worker.run(range(len(sizes)))
            return [worker.read(block, slot, forms[slot][1])[0] for slot in range(len(sizes))]
        finally:
            worker.end()


def test_a_worker_finds_what_a_build_compiled(built):
    small, large = ask(built.binary, 128, 256)
    assert small[0] > 1000
    assert large[0] > 1000
    assert built.cpu_s > 0


def test_a_kernel_that_no_build_met_is_not_compiled_in_a_worker(built):
    with pytest.raises(Fault, match="no build has met") as found:
        ask(built.binary, 512)
    assert found.value.status == "runtime_error"


def test_a_program_that_triton_does_not_compile_is_told_why(built):
    wrong = COMPILED.replace("tl.arange(0, BLOCK)", "tl.arange(0, BLOCK) + undefined_name")
    with pytest.raises(Fault, match="undefined_name") as found:
        build(shared_zygote("cpu"), wrong, "triton", call=call(128), timeout_s=120.0)
    assert found.value.status == "compile_error"


def test_the_stub_that_launches_kernels_compiles(built):
    """Triton has the C compiler make it from a source of its own; it is linked to the driver, which is not here."""
    make = """
import os
from triton.backends.nvidia import driver
from triton.runtime.build import _build
source = os.path.join(os.path.dirname(driver.__file__), "driver.c")
print(os.path.getsize(_build("stub", source, os.environ["TMPDIR"], [], driver.include_dirs, [], [])))
"""
    assert build(shared_zygote("cpu"), COMPILED + make, "triton", call=call(128), timeout_s=120.0).binary


def test_a_build_writes_in_its_scratch_only(built, tmp_path):
    target = tmp_path / "here"
    hostile = COMPILED.replace("import torch\n", f"import torch\nopen({str(target)!r}, 'w').write('x')\n", 1)
    with pytest.raises(Fault, match="Permission denied"):
        build(shared_zygote("cpu"), hostile, "triton", call=call(128), timeout_s=120.0)
    assert not os.path.exists(target)


@needs_triton
@needs_gpu
def test_a_kernel_runs_on_a_gpu(tmp_path):
    from small_programs import SOFTSIGN

    from vegflow.config.evaluation import EvaluationConfig
    from vegflow.evaluation.candidate import Candidate
    from vegflow.evaluation.judge import evaluate_candidates

    program = LAUNCHED.replace(
        "tl.load(x + i, mask=i < n) + 1", "tl.load(x + i, mask=i < n) / (1 + tl.abs(tl.load(x + i, mask=i < n)))"
    )
    config = EvaluationConfig(device="cuda", timing_trials=5, delta=1.0)
    (verdict,) = evaluate_candidates([Candidate("T/1", program, language="triton")], {"T/1": SOFTSIGN}, config)
    assert verdict.status == "correct", verdict.reason
    assert verdict.clock in ("cupti", "events")
