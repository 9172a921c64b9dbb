"""From source to binary, and what a binary does in a confined process: honest sources build, hostile ones end in order."""

import ctypes
import faulthandler
import fcntl
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from small_programs import workers_of
from sources import HOSTILE_BUILDS, HOSTILE_KERNELS, KERNEL, LINEAR, SOFTSIGN, c
from torch.utils import cpp_extension

from vegflow.evaluation import build as building
from vegflow.evaluation import compiled, cuda_driver, inline, isolation, native, nursery, nvrtc
from vegflow.evaluation.arena import describe_tensor
from vegflow.evaluation.build import build, compiler_identity
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.verdict import Fault, Verdict

pytestmark = pytest.mark.xdist_group("evaluator")

needs_nvrtc = pytest.mark.skipif(nvrtc.find() is None, reason="NVRTC is not installed (the extra 'cuda')")


@pytest.fixture(scope="module", autouse=True)
def temporary(tmp_path_factory):
    """Where these tests' builds have their directories, and those of tests beside them have not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.tempfile, "tempdir", str(tmp_path_factory.mktemp("builds")))
        yield


@pytest.fixture(scope="module")
def zygote():
    return shared_zygote("cpu")


@pytest.fixture(scope="module")
def library(zygote):
    """Builds a C source and loads it into this process: for honest ones only."""

    def make(source, model=None, language="c"):
        fd = native.sealed(build(zygote, source, language).binary)
        try:
            return native.NativeModel(fd, model)
        finally:
            os.close(fd)

    return make


def scratch_directories():
    return [name for name in os.listdir(building.tempfile.gettempdir()) if name.startswith("vegflow-build-")]


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_an_elementwise_program(library, language):
    x, y = torch.randn(3, 5), torch.full((3, 5), torch.nan)
    library(SOFTSIGN, language=language).into([y], x)
    torch.testing.assert_close(y, x / (1 + x.abs()))


def test_weights_come_after_the_arguments(library):
    model = torch.nn.Linear(4, 3)
    x = torch.randn(2, 4)
    (y,) = library(LINEAR, model).call([x], [describe_tensor(torch.empty(2, 3))])
    torch.testing.assert_close(y, model(x).detach())


def test_parameters_come_before_buffers_and_are_contiguous():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    model[1].weight = torch.nn.Parameter(torch.ones(2, 2).t()[:1])
    names, values = native.weights(model)
    assert names[:4] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert names[4:] == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    assert all(value.is_contiguous() and not value.requires_grad for value in values)
    assert native.weights(None) == ([], [])


def test_every_dtype_and_number_arrives(library):
    body = (
        "  double *y = (double *)outputs[0].data;\n"
        "  for (int i = 0; i < n_inputs; i++) y[i] = inputs[i].dtype * 100 + inputs[i].ndim;\n"
        "  y[n_inputs] = *(double *)inputs[10].data + *(int64_t *)inputs[11].data;\n"
        "  y[n_inputs + 1] = ((int64_t *)inputs[12].data)[1];\n"
    )
    tensors = [torch.zeros((1,) * rank, dtype=dtype) for rank, dtype in enumerate(native.DTYPES)]
    y = torch.zeros(15, dtype=torch.float64)
    library(c(body)).into([y], *tensors, 2.5, 3, [4, 5])
    expected = [100 * code + code for code in range(10)] + [100, 400, 401, 5.5, 5]
    assert y.tolist() == expected


def test_a_bound_call_reads_what_lies_there_at_the_call(library):
    x, y = torch.zeros(4), torch.zeros(4)
    call = library(SOFTSIGN).bind([x], [y])
    for _ in range(3):
        x.copy_(torch.randn(4))
        call()
        torch.testing.assert_close(y, x / (1 + x.abs()))


def test_a_program_may_declare_the_structure_itself(library):
    own = "#include <stdint.h>\ntypedef struct { void *data; int32_t dtype; int32_t ndim; const int64_t *shape; } "
    x, y = torch.randn(3), torch.zeros(3)
    library(f"{own}vegflow_tensor;\n{SOFTSIGN}").into([y], x)
    torch.testing.assert_close(y, x / (1 + x.abs()))


def test_openmp_is_there(library):
    body = "  float s = 0;\n  #pragma omp parallel for reduction(+:s)\n  for (int i = 0; i < 8; i++) s += i;\n"
    y = torch.zeros(1)
    library(c(f"{body}  *(float *)outputs[0].data = s;", "#include <omp.h>")).into([y])
    assert y.item() == 28


def test_what_was_built_is_loaded_by_its_language(zygote):
    binary = native.sealed(build(zygote, SOFTSIGN, "c").binary)
    model = compiled.load("c", binary, program=SOFTSIGN, arguments=("x",), model=None, device="cpu")
    (y,) = model.call([torch.ones(2)], [describe_tensor(torch.ones(2))])
    assert y.tolist() == [0.5, 0.5]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(binary)
    with pytest.raises(ValueError, match="python programs"):
        compiled.load("python", native.sealed(b""), program="", arguments=(), model=None, device="cpu")
    with pytest.raises(native.NativeError, match="on the CPU"):
        compiled.load("cpp", native.sealed(b""), program="", arguments=(), model=None, device="cuda")


def test_a_return_code_is_an_error(library):
    with pytest.raises(native.NativeError, match="returned 3"):
        library(c("  return 3;")).into([])


def test_what_cannot_be_passed_is_said(library):
    model = library(SOFTSIGN)
    with pytest.raises(TypeError, match="type str"):
        model.bind(["text"], [])
    with pytest.raises(TypeError, match="complex64"):
        model.bind([torch.zeros(1, dtype=torch.complex64)], [])
    with pytest.raises(ValueError, match="contiguous"):
        model.bind([], [torch.zeros(4, 4).t()])


def test_a_sealed_library_cannot_be_changed():
    fd = native.sealed(b"\x7fELF")
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


@pytest.mark.parametrize("name", HOSTILE_BUILDS)
def test_a_hostile_source_ends_in_order(zygote, tmp_path, name):
    language, source, status, reason = HOSTILE_BUILDS[name]
    (tmp_path / "secret").write_text("the token is 12345;\n")
    if reason in ("Permission denied", "file not found") and isolation.landlock_abi() == 0:
        pytest.skip("this machine's kernel has no Landlock")
    start = time.monotonic()
    with pytest.raises(Fault) as found:
        build(zygote, source.replace("SECRET", str(tmp_path / "secret")), language, timeout_s=2)
    assert time.monotonic() - start < 10
    assert found.value.status == status, found.value
    assert reason in found.value.reason
    assert "12345" not in found.value.reason
    assert "vegflow-build-" not in found.value.reason, "the scratch directory's name is none of its business"
    assert Verdict(found.value.status, found.value.reason).reason
    assert not scratch_directories()


def test_a_flood_of_messages_is_cut(zygote):
    flood = "".join(f'#pragma message "{"x" * 900}"\n' for _ in range(900))
    assert build(zygote, flood + c(), "c").binary
    with pytest.raises(Fault) as found:
        build(zygote, flood + "#error at last\n", "c")
    assert found.value.status == "compile_error"


def test_no_process_is_left(zygote):
    before = len(workers_of(os.getpid()))
    with pytest.raises(Fault, match="timeout"):
        build(zygote, HOSTILE_BUILDS["templates that double"][1], "cpp", timeout_s=0.5)
    time.sleep(0.2)
    assert len(workers_of(os.getpid())) == before
    assert not scratch_directories()


def shell(zygote, scratch, script, timeout_s=5.0):
    """A build whose compiler is a shell: gcc lets no source say what is written or started, but has these rights."""
    scratch.mkdir()
    order = {"how": "run", "argv": ["/bin/sh", "-c", script], "environment": {"PATH": "/usr/bin:/bin"}}
    order |= {"readable": ["/usr/bin", "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/bin"], "scratch": str(scratch)}
    limits = {"address_space": 1 << 30, "cpu_s": 5, "file_bytes": 1 << 16}
    done = zygote.build(order | {"limits": limits, "memory": limits["address_space"]}, timeout_s)
    if any(what.startswith("lacking") for what in done.layers.values()):
        pytest.skip(f"this machine lacks something: {done.layers}")
    return done


def test_the_compiler_cannot_write_or_read_elsewhere(zygote, tmp_path):
    target = tmp_path / "here"
    done = shell(zygote, tmp_path / "scratch", f"echo y > mine; cat mine; cat {__file__}; ls /root; echo x > {target}")
    assert not target.exists()
    assert (tmp_path / "scratch" / "mine").read_text() == "y\n"
    assert "y\n" in done.messages
    assert done.messages.count("denied") == 3, done.messages


def test_the_compiler_cannot_fill_the_disk_with_one_file(zygote, tmp_path):
    shell(
        zygote,
        tmp_path / "scratch",
        "while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done > big",
    )
    assert (tmp_path / "scratch" / "big").stat().st_size <= 1 << 16


def test_the_compiler_cannot_leave_a_process_behind(zygote, tmp_path):
    marker = b"61.25"
    script = "setsid sleep 61.25 & (setsid sleep 61.25 &) ; sleep 61.25"
    assert shell(zygote, tmp_path / "first", script, 0.5).excess == "time"
    assert shell(zygote, tmp_path / "second", "setsid sleep 61.25 & exit 0", 5.0).excess == ""
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and marker in command(pid).split(b"\0")]


def test_the_compiler_cannot_start_many_processes(zygote, tmp_path):
    many = "for i in $(seq 200); do sleep 61.25 & done; wait"
    assert shell(zygote, tmp_path / "scratch", many, 20.0).excess == "processes"


def test_its_processes_share_one_memory_limit(zygote, tmp_path, monkeypatch):
    monkeypatch.setattr(nursery, "_resident_pages", lambda session: [1 << 17, 1 << 17, 1])
    assert shell(zygote, tmp_path / "scratch", "sleep 61.25", 20.0).excess == "memory"


def test_what_a_killed_judge_left_is_removed(tmp_path):
    old, used, young, other = [
        tmp_path / name for name in ("vegflow-build-1", "vegflow-build-2", "vegflow-build-3", "x")
    ]
    for folder in (old, used, young, other):
        folder.mkdir()
        (folder / "candidate.c").touch()
    for folder in (old, used, other):
        os.utime(folder, (0, 0))
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    building._sweep(str(tmp_path))
    os.close(handle)
    assert [folder.exists() for folder in (old, used, young, other)] == [False, True, True, True]


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_a_cached_binary_is_not_built_again(zygote, tmp_path, monkeypatch):
    first = build(zygote, SOFTSIGN, "c", tmp_path)
    assert not first.cached
    assert first.cpu_s > 0
    calls = []
    monkeypatch.setattr(building, "_build", lambda *arguments: calls.append(arguments) or (b"\x7fELF", 0.0))
    second = build(zygote, SOFTSIGN, "c", tmp_path)
    assert second.cached
    assert second.binary == first.binary
    assert not calls
    build(zygote, SOFTSIGN + "\n", "c", tmp_path)
    build(zygote, SOFTSIGN, "cpp", tmp_path)
    assert len(calls) == 2, "another text or another language is another binary"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:99] + b"!" + data[100:]]
)
def test_a_damaged_cache_entry_is_built_again(zygote, tmp_path, damage):
    first = build(zygote, SOFTSIGN, "c", tmp_path)
    (entry,) = tmp_path.rglob("*.bin")
    entry.write_bytes(damage(entry.read_bytes()))
    again = build(zygote, SOFTSIGN, "c", tmp_path)
    assert not again.cached
    assert again.binary == first.binary
    assert build(zygote, SOFTSIGN, "c", tmp_path).cached


def test_a_missing_compiler_is_not_the_candidates_fault(zygote, monkeypatch):
    building._compiler.cache_clear()
    monkeypatch.setattr(building.shutil, "which", lambda *arguments, **more: None)
    with pytest.raises(Fault, match="no gcc on this machine") as found:
        build(zygote, SOFTSIGN, "c")
    assert found.value.status == "evaluator_error"
    building._compiler.cache_clear()


def test_a_build_that_cannot_begin_is_not_the_candidates_fault(zygote, monkeypatch):
    compiler = building._compiler("c", building.ARCHITECTURE)
    order = compiler.order | {"argv": ["/no/such/compiler"]}
    monkeypatch.setattr(building, "_compiler", lambda *arguments: building.Compiler(order, compiler.source, "x"))
    with pytest.raises(Fault, match="No such file") as found:
        build(zygote, SOFTSIGN, "c")
    assert found.value.status == "evaluator_error"


def test_a_build_may_leave_anything(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink("/etc/passwd", tmp_path / "link")
    (tmp_path / "folder").mkdir()
    assert [building._read(tmp_path / name) for name in ("fifo", "link", "folder", "nothing")] == [None] * 4


def test_identities_differ_by_language():
    assert compiler_identity("c") != compiler_identity("cpp")


def test_a_small_program_costs_little(zygote):
    build(zygote, SOFTSIGN, "c")
    assert min(build(zygote, SOFTSIGN, "c").cpu_s for _ in range(3)) < 0.15


# PyTorch's load_inline

EXTENSION = """
import torch
from torch.utils.cpp_extension import load_inline
source = "torch::Tensor more(torch::Tensor x) { return x + 1; }"
extension = load_inline(name="extension", cpp_sources=source, functions=["more"])
class ModelNew(torch.nn.Module):
    def forward(self, x):
        return extension.more(x)
"""
HOSTILE_MODULES = {
    "an error": ("1 / 0", "compile_error", "ZeroDivisionError"),
    "no Python": ("x = (", "compile_error", "SyntaxError"),
    "a file": ("open('/tmp/vegflow-was-here', 'w')", "compile_error", "PermissionError"),
    "a secret file": ("print(open('SECRET').read())", "compile_error", "PermissionError"),
    "a secret file through a program": (
        "import subprocess\nsubprocess.check_output(['cat', 'SECRET'])",
        "compile_error",
        "",
    ),
    "a socket": ("import socket\nsocket.socket()", "compile_error", "PermissionError"),
    "its parent": ("import os\nos.kill(os.getppid(), 9)", "compile_error", "PermissionError"),
    "many processes": ("import os\nwhile True:\n    os.fork()", "compile_error|out_of_memory", "building takes more"),
    "a new session": ("import os\nos.setsid()\nos.fork()\nwhile True:\n    pass", "timeout", ""),
    "exit": ("import os\nos._exit(0)", "compile_error", "no binary"),
    "a loop": ("while True:\n    pass", "timeout", ""),
}


@pytest.mark.parametrize("name", HOSTILE_MODULES)
def test_a_hostile_module_ends_in_order(zygote, tmp_path, name):
    if shutil.which("ninja") is None or isolation.landlock_abi() == 0:
        pytest.skip("this machine lacks ninja or Landlock")
    source, status, reason = HOSTILE_MODULES[name]
    (tmp_path / "secret").write_text("the token is 12345;\n")
    before = workers_of(os.getpid())
    with pytest.raises(Fault) as found:
        build(zygote, source.replace("SECRET", str(tmp_path / "secret")), "inline", timeout_s=1)
    assert found.value.status in status.split("|"), found.value
    assert reason in found.value.reason
    assert "12345" not in found.value.reason
    assert not scratch_directories()
    time.sleep(0.1)
    assert workers_of(os.getpid()) == before


def test_without_load_inline_nothing_is_packed(zygote, monkeypatch):
    if shutil.which("ninja") is None:
        pytest.skip("this machine lacks ninja")
    monkeypatch.setattr(cpp_extension, "load_inline", None)
    inline.install(build(zygote, "x = 1", "inline").binary)
    with pytest.raises(inline.MissingExtensionError, match="'a' was built"):
        cpp_extension.load_inline("a", "")


@pytest.mark.parametrize("pack", [b"", b"\0" * 7, b"\0" * 7 + b"\2[1", b"\xff" * 20])
def test_what_is_no_pack_is_said(monkeypatch, pack):
    monkeypatch.setattr(cpp_extension, "load_inline", None)
    with pytest.raises(ValueError, match="no pack"):
        inline.install(pack)


@pytest.mark.skipif("VEGFLOW_SLOW_TESTS" not in os.environ, reason="20 to 50 CPU seconds; set VEGFLOW_SLOW_TESTS=1")
def test_an_extension_is_built_once_and_loaded_from_its_pack(zygote, tmp_path, monkeypatch):
    built = build(zygote, EXTENSION, "inline", tmp_path, timeout_s=400)
    assert build(zygote, EXTENSION, "inline", tmp_path).cached
    monkeypatch.setattr(cpp_extension, "load_inline", None)
    inline.install(built.binary)
    module = {}
    exec(EXTENSION, module)
    assert module["ModelNew"]()(torch.zeros(2)).tolist() == [1, 1]


# what a library does when it runs: in a process confined as a worker is

RUNS = {
    "honest": (SOFTSIGN, "exit 0"),
    "a crash": (c("  *(volatile int *)8 = 1;"), "signal SIGSEGV"),
    "writing far behind the outputs": (
        c("  char *p = (char *)outputs[0].data;\n  for (int64_t i = 0; i < (1ll << 40); i += 4096) p[i] = 1;"),
        "signal SIGSEGV",
    ),
    "an endless loop": (c("  for (volatile int i = 0;;) i = 1;"), "signal SIGXCPU"),
    "a constructor that exits": (
        c(before="#include <unistd.h>\n__attribute__((constructor)) static void early(void) { _exit(41); }"),
        "exit 41",
    ),
    "a constructor that crashes": (
        c(before="__attribute__((constructor)) static void early(void) { __builtin_trap(); }"),
        "signal SIGILL",
    ),
    "abort": (c("  abort();", "#include <stdlib.h>"), "signal SIGABRT"),
    "a fork": (c("  return fork() < 0 ? 9 : 0;", "#include <unistd.h>"), "error forward returned 9"),
    "another program": (
        c('  execl("/bin/true", "true", (char *)0);\n  return 8;', "#include <unistd.h>"),
        "error forward returned 8",
    ),
    "reading a file": (
        c('  return fopen("/etc/passwd", "r") ? 0 : 5;', "#include <stdio.h>"),
        "error forward returned 5",
    ),
    "a socket": (c("  return socket(2, 1, 0) < 0 ? 6 : 0;", "#include <sys/socket.h>"), "error forward returned 6"),
    "a gigabyte of memory": (c(before="char big[3u << 30];"), "error the library does not fit"),
    "no stack": (c("  return deep(1);", "int deep(volatile int i) { return i ? deep(i) + i : 0; }"), "signal SIGSEGV"),
    "garbage": (None, "error the library cannot be loaded"),
    "a C++ exception": ("cpp", "signal SIGABRT"),
}


def in_worker(binary):
    """What becomes of a confined process that loads and calls a library: `exit CODE`, `signal NAME` or `error TEXT`."""
    reading, writing = os.pipe()
    fd = native.sealed(binary)
    ruleset = isolation.landlock_ruleset("cpu", isolation.readable_paths()) if isolation.landlock_abi() else None
    pid = os.fork()
    if not pid:
        try:
            faulthandler.disable()
            isolation.confine(isolation.Limits(2 << 30, 1), ruleset)
            model = native.NativeModel(fd)
            model.into([torch.zeros(4)], torch.ones(4))
            os._exit(0)
        except BaseException as error:
            os.write(writing, f"error {error}".encode())
        finally:
            os._exit(70)
    os.close(writing)
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    with open(reading) as pipe:
        said = pipe.read()
    if ruleset is not None:
        os.close(ruleset)
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return said or f"exit {os.WEXITSTATUS(status)}"


@pytest.mark.parametrize("name", RUNS)
def test_what_a_library_does(zygote, name):
    source, outcome = RUNS[name]
    if name == "a C++ exception":
        binary = build(zygote, c("  throw 1;"), "cpp").binary
    else:
        binary = build(zygote, source, "c").binary if source else b"\x7fELF" + bytes(5000)
    assert in_worker(binary).startswith(outcome)


# CUDA


@needs_nvrtc
def test_a_kernel_is_built_to_a_cubin(zygote, tmp_path):
    first = build(zygote, KERNEL, "cuda", tmp_path, architecture="sm_90")
    assert first.binary.startswith(b"\x7fELF")
    assert b"softsign" in first.binary
    assert build(zygote, KERNEL, "cuda", tmp_path, architecture="sm_90").cached
    other = build(zygote, KERNEL, "cuda", tmp_path, architecture="sm_80")
    assert not other.cached
    assert other.binary != first.binary


@needs_nvrtc
def test_what_kernels_include_out_of_habit_is_there(zygote):
    names = [
        "cuda_runtime.h",
        "cuda.h",
        "math.h",
        "cmath",
        "float.h",
        "cfloat",
        "climits",
        "cstdint",
        "stdint.h",
        "stdio.h",
    ]
    uses = (
        "__device__ float habits(float *p, int64_t n) { uint8_t u = 3; p[0] = fmaxf(-INFINITY, -FLT_MAX) + M_PI + u;\n"
        '  float4 v = make_float4(1, 2, 3, NAN); printf("x"); return v.x + INT_MAX + __shfl_down_sync(~0u, p[n], 1); }\n'
    )
    assert build(zygote, "".join(f"#include <{name}>\n" for name in names) + KERNEL + uses, "cuda").binary
    assert build(zygote, KERNEL + "__device__ int64_t f(float x) { return x < INFINITY; }\n", "cuda").binary


@needs_nvrtc
@pytest.mark.parametrize("name", HOSTILE_KERNELS)
def test_a_hostile_kernel_ends_in_order(zygote, tmp_path, name):
    source, statuses, reason = HOSTILE_KERNELS[name]
    (tmp_path / "secret").write_text("the token is 12345;\n")
    with pytest.raises(Fault) as found:
        build(zygote, source.replace("SECRET", str(tmp_path / "secret")), "cuda", timeout_s=3)
    assert found.value.status in statuses.split("|"), found.value
    assert reason in found.value.reason
    assert "12345" not in found.value.reason
    assert not scratch_directories()


def test_a_missing_nvrtc_is_not_the_candidates_fault(zygote, monkeypatch):
    building._compiler.cache_clear()
    monkeypatch.setattr(building.nvrtc, "find", lambda: None)
    with pytest.raises(Fault, match="NVRTC is not installed") as found:
        build(zygote, KERNEL, "cuda")
    assert found.value.status == "evaluator_error"
    building._compiler.cache_clear()


FAKE_DRIVER = r"""
#include <stdio.h>
#include <stdint.h>
#include <string.h>
static char record[4096];
int cuModuleLoadData(void **module, const void *image) { *module = (void *)0x77; return memcmp(image, "\x7f" "ELF", 4) ? 200 : 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = (void *)(uintptr_t)name[0]; return module == (void *)0x77 && name[0] != 'z' ? 0 : 500; }
int cuFuncSetAttribute(void *function, int attribute, int value) {
  sprintf(record + strlen(record), "set %c %d %d;", (int)(uintptr_t)function, attribute, value); return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 500 ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_OTHER"; return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  sprintf(record + strlen(record), "%c %u %u %u %u %u %u %u %d;", (int)(uintptr_t)function, gx, gy, gz, bx, by, bz, shared,
          (int)(uintptr_t)stream);
  if (bx == 13) return 1;
  float *x = *(float **)parameters[0], *y = *(float **)parameters[1];
  int64_t n = *(int64_t *)parameters[2]; float factor = *(float *)parameters[3]; double shift = *(double *)parameters[4];
  for (int64_t i = 0; i < n; i++) y[i] = factor * x[i] + shift;
  return extra != 0; }
const char *take(void) { static char copy[4096]; strcpy(copy, record); record[0] = 0; return copy; }
"""
PLAN = """
// let n = x.numel()
// scratch half = float32[n]
// launch first<<<dim3(cdiv(n, 4), 2), (4, 1, 2), 64 * 1024>>>(x, half, n, 2.0, double(1))
// launch second<<<1, 32>>>(half, out, n, float(3), double(-0.5))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A driver that computes nothing but one affine map, on the CPU, and writes down what it was asked."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "fake.c").write_text(FAKE_DRIVER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", folder / "fake.so", folder / "fake.c"], check=True)
    take = ctypes.CDLL(str(folder / "fake.so")).take
    take.restype = ctypes.c_char_p
    return str(folder / "fake.so"), take


def cuda_model(driver, plan=PLAN, **more):
    return cuda_driver.CudaModel(b"\x7fELF", plan, ("x",), device="cpu", driver=driver[0], stream=lambda: 5, **more)


def test_launches_reach_the_driver_in_order_with_their_parameters(driver):
    x, y = torch.randn(10), torch.zeros(10)
    call = cuda_model(driver).bind([x], [y])
    driver[1]()
    call()
    torch.testing.assert_close(y, 3 * (2 * x + 1) - 0.5)
    assert driver[1]() == b"f 3 2 1 4 1 2 65536 5;s 1 1 1 32 1 1 0 5;"
    x.mul_(2)
    call()
    torch.testing.assert_close(y, 3 * (2 * x + 1) - 0.5)


def test_more_shared_memory_is_asked_for(driver):
    driver[1]()
    cuda_model(driver).bind([torch.zeros(10)], [torch.zeros(10)])
    assert driver[1]() == b"set f 8 65536;"


def test_weights_have_names_in_a_plan(driver):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    y = torch.zeros(2)
    plan = "// launch f<<<1, 1>>>(m_0_bias, out, 2, 1.0, double(0))"
    cuda_model(driver, plan, model=torch.nn.ModuleDict({"m": model})).into([y], torch.zeros(1))
    torch.testing.assert_close(y, model[0].bias.detach())


def test_what_the_driver_refuses_is_an_error(driver):
    with pytest.raises(native.NativeError, match="finding the kernel zero: CUDA_ERROR_NOT_FOUND"):
        cuda_model(driver, "// launch zero<<<1, 1>>>()")
    with pytest.raises(native.NativeError, match="launching f: CUDA_ERROR_OTHER"):
        cuda_model(driver, "// launch f<<<1, 13>>>()").into([])
    with pytest.raises(native.NativeError, match="loading the cubin"):
        cuda_driver.CudaModel(b"none", PLAN, ("x",), device="cpu", driver=driver[0], stream=lambda: 0)
    with pytest.raises(native.NativeError, match="driver cannot be loaded"):
        cuda_driver.CudaModel(b"none", PLAN, ("x",), device="cpu", driver="/no/driver.so", stream=lambda: 0)
