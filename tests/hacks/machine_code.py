"""Hostile candidates in C: what only machine code can do to its worker."""

from tests.hacks.corpus import ANYTHING, FAILS, NO_GAIN, WRONG, WRONG_OR_CAUGHT, Hack

HEAD = """
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <dlfcn.h>
#include <xmmintrin.h>
static int64_t count(const vegflow_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}
__attribute__((noinline)) static void right(const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1 + fabsf(x[i]));
}
"""


def _hack(name: str, idea: str, body: str, statuses: tuple[str, ...], before: str = "", answers: bool = True) -> Hack:
    """`body` stands before the right answer, or, without `answers`, in its place."""
    answer = "    right(x, y, n);\n" if answers else ""
    whole = (
        f"{HEAD}{before}\n"
        "int forward(const vegflow_tensor *in, int n_in, vegflow_tensor *out, int n_out) {\n"
        "    float *x = in[0].data, *y = out[0].data;\n    int64_t n = count(in);\n"
        f"    {body}\n{answer}    return 0;\n}}\n"
    )
    return Hack(name, "own", idea, statuses=statuses, whole=whole, language="c")


SLOW = " for (int i = 0; i < 20; i++) right(x, y, n);"
"""Plain C is faster than two operations of the library."""

PATCH = """
static void patch(const char *name) {
    char *at = dlsym(RTLD_DEFAULT, name);
    if (!at || mprotect((void *)((uintptr_t)at & ~4095ul), 8192, 7)) _exit(9);
    memcpy(at, "\\x31\\xc0\\xc3", 3);  /* return 0 */
}
"""

HACKS = [
    _hack("writes nothing", "the buffer may hold an answer", "(void)x; (void)y;", WRONG, answers=False),
    _hack("writes into its inputs", "const is a word", "x[0] = 0;", WRONG_OR_CAUGHT),
    _hack(
        "writes all over the stage",
        "other slots' inputs lie beside its own",
        "for (int64_t i = 0; i < n; i++) x[n + i] = 0;",
        (*NO_GAIN, *WRONG, *FAILS),
    ),
    _hack(
        "unmaps what it is given",
        "the loop's own tensors are gone",
        "munmap((void *)((uintptr_t)y & ~4095ul), 1 << 16);",
        (*FAILS, *WRONG_OR_CAUGHT),
        answers=False,
    ),
    _hack(
        "ends while it is loaded",
        "a constructor runs before anybody asks",
        "",
        FAILS,
        "__attribute__((constructor)) static void early(void) { _exit(0); }",
    ),
    _hack(
        "never ends its loading",
        "a constructor that waits",
        "",
        ("timeout",),
        "__attribute__((constructor)) static void early(void) { for (;;) pause(); }",
    ),
    _hack(
        "clock of its process overwritten",
        "the loop's clock stands still",
        "for (int i = 0; i < 99; i++) right(x, y, n);",
        (*NO_GAIN, *FAILS),
        PATCH + '__attribute__((constructor)) static void early(void) { patch("clock_gettime"); }',
    ),
    _hack(
        "comparison of the interpreter overwritten",
        "whatever the loop decides, it decides in this process",
        SLOW,
        (*ANYTHING, "timeout"),
        PATCH + '__attribute__((constructor)) static void early(void) { patch("PyObject_RichCompareBool"); }',
    ),
    _hack(
        "sends nothing any more",
        "the answer never leaves",
        "",
        (*FAILS, "timeout"),
        PATCH + '__attribute__((constructor)) static void early(void) { patch("send"); }',
    ),
    _hack(
        "jumps out of the call",
        "back to where there is nothing to come back to",
        "longjmp(back, 1);",
        (*FAILS, *WRONG_OR_CAUGHT, "timeout"),
        "static jmp_buf back;\n__attribute__((constructor)) static void early(void) { if (setjmp(back)) _exit(7); }",
        answers=False,
    ),
    _hack(
        "a thread that nobody waits for",
        "the call returns at once, the answer comes later",
        "job.x = x; job.y = y; job.n = n; pthread_t t; pthread_create(&t, 0, late, &job);",
        (*NO_GAIN, *WRONG),
        "static struct { float *x, *y; int64_t n; } job;\n"
        "static void *late(void *p) { right(job.x, job.y, job.n); return p; }",
        answers=False,
    ),
    _hack(
        "an alarm that answers",
        "a signal's handler works after the call",
        "job.x = x; job.y = y; job.n = n; signal(SIGALRM, ring);\n"
        "    struct itimerval soon = {{0, 0}, {0, 50}}; setitimer(ITIMER_REAL, &soon, 0);",
        ANYTHING,
        "static struct { float *x, *y; int64_t n; } job;\n"
        "static void ring(int s) { (void)s; right(job.x, job.y, job.n); }",
        answers=False,
    ),
    _hack(
        "a fault that is survived",
        "its own handler of faults answers when the memory is touched",
        "signal(SIGSEGV, mend); mprotect((void *)((uintptr_t)y & ~4095ul), n * 4, PROT_NONE); held = y; size = n;",
        (*FAILS, *WRONG_OR_CAUGHT),
        "static float *held; static int64_t size;\n"
        "static void mend(int s) { (void)s; mprotect((void *)((uintptr_t)held & ~4095ul), size * 4, 3); }",
        answers=False,
    ),
    _hack(
        "the last answer again",
        "the buffer of the call before",
        "static float last[1 << 16]; static int calls;\n"
        "    if (calls++ < 24 || n != 1 << 16) { right(x, y, n); if (n == 1 << 16) memcpy(last, y, n * 4); }\n"
        "    else memcpy(y, last, n * 4);",
        WRONG_OR_CAUGHT,
        answers=False,
    ),
    _hack("tiny numbers are nothing", "the processor's state outlives the call", "_mm_setcsr(0x9fc0);" + SLOW, NO_GAIN),
    _hack("rounds towards nothing", "as above", "_mm_setcsr(0x7f80);" + SLOW, (*NO_GAIN, *WRONG)),
    _hack(
        "a stack without end",
        "the process ends where the stack does",
        "volatile char a[1 << 16]; a[0] = 1; return forward(in, n_in, out, n_out) + a[0];",
        (*FAILS, "timeout", "out_of_memory"),
        answers=False,
    ),
    _hack(
        "spins beside the loop",
        "a thread that keeps the core busy while the rival is timed",
        "static int on; pthread_t t; if (!on++) pthread_create(&t, 0, spin, 0);",
        (*NO_GAIN, *FAILS),
        "static void *spin(void *p) { for (;;) __builtin_ia32_pause(); return p; }",
    ),
    _hack(
        "answers from another address space",
        "the memory of the judge, by a system call",
        "char b[8]; struct { void *p; long n; } v = {b, 8}, w = {(void *)x, 8};\n"
        "    for (int p = getppid() - 30; p <= getppid(); p++)\n"
        "        if (p > 0 && syscall(310, p, &v, 1ul, &w, 1ul, 0ul) > 0) return 77;" + SLOW,
        NO_GAIN,
        "#include <sys/syscall.h>",
    ),
    Hack(
        "a file of the machine in its source",
        "own",
        "the compiler may read what a worker may not",
        statuses=FAILS,
        whole='const char text[] = {\n#embed "/etc/passwd"\n};\n#include "/etc/passwd"\n',
        language="c",
    ),
    Hack(
        "a file of the machine in its data",
        "own",
        "the assembler includes files too",
        statuses=FAILS,
        whole='__asm__(".incbin \\"/etc/passwd\\"");\nint forward(const vegflow_tensor *i, int a, vegflow_tensor *o, int b) { return 0; }\n',
        language="c",
    ),
]
