"""Honest and hostile sources in compiled languages that the tests share."""

SIGNATURE = "int forward(const vegflow_tensor *inputs, int n_inputs, vegflow_tensor *outputs, int n_outputs)"


def c(body: str = "", before: str = "") -> str:
    """A C (and C++) source whose entry does `body` and succeeds."""
    return f"{before}\n{SIGNATURE} {{\n{body}\n  return 0;\n}}\n"


SOFTSIGN = c(
    "  const float *x = (const float *)inputs[0].data;\n"
    "  float *y = (float *)outputs[0].data;\n"
    "  int64_t n = 1;\n"
    "  for (int d = 0; d < inputs[0].ndim; d++) n *= inputs[0].shape[d];\n"
    "  for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1 + fabsf(x[i]));",
    "#include <math.h>",
)
LINEAR = c(
    "  const float *x = (const float *)inputs[0].data, *w = (const float *)inputs[1].data;\n"
    "  const float *b = (const float *)inputs[2].data;\n"
    "  float *y = (float *)outputs[0].data;\n"
    "  if (n_inputs != 3 || n_outputs != 1 || inputs[0].ndim != 2 || inputs[1].dtype != VEGFLOW_FLOAT32) return 7;\n"
    "  int64_t n = inputs[0].shape[0], k = inputs[0].shape[1], m = inputs[1].shape[0];\n"
    "  for (int64_t i = 0; i < n; i++)\n"
    "    for (int64_t j = 0; j < m; j++) {\n"
    "      float s = b[j];\n"
    "      for (int64_t l = 0; l < k; l++) s += x[i * k + l] * w[j * k + l];\n"
    "      y[i * m + j] = s;\n"
    "    }"
)
_DOUBLING = (
    "template<int A,int B,int C> struct H{typedef H<A-1,B*2,C*2+1> l; typedef H<A-1,B*2+1,C*2> r;"
    " static const int v=l::v+r::v;}; template<int B,int C> struct H<0,B,C>{static const int v=1;};\n"
    "int x = H<28,0,0>::v;\n"
)

# name -> (language, source, status, what the reason says)
HOSTILE_BUILDS = {
    "a secret file included": ("c", '#include "SECRET"\n' + c(), "compile_error", "Permission denied"),
    "the system's users included": ("c", '#include "/etc/passwd"\n' + c(), "compile_error", "Permission denied"),
    "a way up to them": ("c", '#include "../../../../etc/shadow"\n' + c(), "compile_error", "Permission denied"),
    "its environment included": ("c", '#include "/proc/self/environ"\n' + c(), "compile_error", "Permission denied"),
    "an endless device": ("c", '#include "/dev/zero"\n' + c(), "compile_error", "Permission denied"),
    "a secret file as bytes": ("c", '__asm__(".incbin \\"SECRET\\"");\n' + c(), "compile_error", "file not found"),
    "asking for a secret file": (
        "c",
        '#if __has_include("SECRET")\n#error it is there\n#endif\n' + c(),
        "compile_error",
        "Permission denied",
    ),
    "a gigabyte of data": ("c", c(before="char a[1 << 30] = {1};"), "compile_error", "File too large"),
    "endless assembly": (
        "c",
        c(before='__asm__(".rept 2000000000\\n.quad 1\\n.endr");'),
        "out_of_memory",
        "out of memory",
    ),
    "a macro that explodes": (
        "c",
        "#define A(x) x x x x x x x x x x\n#define B(x) A(A(A(A(A(x)))))\nint a[] = {B(B(B(1,)))};\n" + c(),
        "out_of_memory",
        "memory exhausted",
    ),
    "an inclusion of itself, doubled": (
        "c",
        '#if __INCLUDE_LEVEL__ < 190\n#include "candidate.c"\n#include "candidate.c"\n#endif\n',
        "timeout",
        "building takes longer",
    ),
    "templates that double": ("cpp", _DOUBLING + c(), "timeout", "building takes longer"),
    "templates without end": (
        "cpp",
        "template<int N> int f() { return f<N + 1>(); }\nint x = f<0>();\n" + c(),
        "compile_error",
        "depth exceeds",
    ),
    "a loop in a constant": (
        "cpp",
        "constexpr long f() { long i = 0; while (true) i++; return i; }\nconstexpr long x = f();\n" + c(),
        "compile_error",
        "limit",
    ),
    "nesting too deep": ("c", "int x = " + "(" * 100_000 + "1" + ")" * 100_000 + ";\n" + c(), "compile_error", ""),
    "a plugin through a pragma": (
        "c",
        '#pragma GCC optimize("-fplugin=/tmp/plugin.so")\n#pragma GCC diagnostic error "-Wpragmas"\n#error end\n' + c(),
        "compile_error",
        "",
    ),
    "no entry": ("c", "int backward(void) { return 0; }\n", "compile_error", "forward"),
    "no program": ("c", "", "compile_error", "forward"),
    "another entry": ("c", "void forward(float *x) {}\n", "compile_error", "conflicting types"),
    "an unknown function": ("c", c("  missing();", "int missing(void);"), "compile_error", "undefined reference"),
    "a syntax error": ("c", c("  int = ;"), "compile_error", "error:"),
    "null bytes": ("c", c() + "\0", "parse_error", "null bytes"),
    "no text": ("c", "// \ud800\n" + c(), "parse_error", "Unicode"),
    "too long": ("c", "//" + "x" * (1 << 20), "parse_error", "characters"),
}

KERNEL = (
    "// launch softsign<<<cdiv(x.numel(), 256), 256>>>(x, out, x.numel())\n"
    'extern "C" __global__ void softsign(const float *x, float *y, long long n) {\n'
    "  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;\n"
    "  if (i < n) y[i] = x[i] / (1.f + fabsf(x[i]));\n"
    "}\n"
)
HOSTILE_KERNELS = {
    "a secret file included": ('#include "SECRET"\n' + KERNEL, "compile_error", "ermission denied"),
    "an endless device": ('#include "/dev/zero"\n' + KERNEL, "compile_error", "ermission denied"),
    "templates that double": (KERNEL + _DOUBLING.replace("int x", "__device__ int x"), "timeout|out_of_memory", ""),
    "a gigabyte of data": (KERNEL + "__device__ char a[1 << 30] = {1};\n", "out_of_memory|compile_error", ""),
    "a syntax error": (KERNEL + "garbage", "compile_error", "error:"),
    "no such kernel": (KERNEL.replace('extern "C"', ""), "compile_error", "no kernel softsign"),
    "nothing launched": (KERNEL.partition("\n")[2], "compile_error", "launch"),
}
