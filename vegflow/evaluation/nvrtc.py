"""NVIDIA's run-time compiler through ctypes: CUDA C++ to a cubin, on machines without a GPU as well.

Finds the library and calls it; where it is called (in a confined process) and what becomes of the cubin is `build`'s.
"""

import ctypes
import ctypes.util
import importlib.util
import sys
from functools import cache
from pathlib import Path

SUCCESS, COMPILATION = 0, 6
PRELUDE = "vegflow.h"
"""Included before a source's first line: what nvcc's own prelude gives, and NVRTC does not."""
_PRELUDE = """\
#pragma once
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif
"""
_LIMITS = """\
#pragma once
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define DBL_MAX 1.7976931348623157e+308
#define DBL_MIN 2.2250738585072014e-308
#define DBL_EPSILON 2.2204460492503131e-16
#define INT_MAX 2147483647
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX 4294967295u
#define LLONG_MAX 9223372036854775807ll
#define LLONG_MIN (-LLONG_MAX - 1)
"""
HEADERS = {
    PRELUDE: _PRELUDE,
    **dict.fromkeys(("float.h", "cfloat", "limits.h", "climits"), _LIMITS),
    **dict.fromkeys(("math.h", "cmath", "stdint.h", "cstdint", "stdio.h", "cstdio", "stdlib.h", "cstdlib"), ""),
    **dict.fromkeys(("stddef.h", "cstddef", "cuda.h", "cuda_runtime.h", "device_launch_parameters.h"), ""),
}
"""Headers of the host that CUDA sources include out of habit, as far as device code has a use for them."""


def find() -> Path | None:
    """NVRTC's library: of NVIDIA's wheels in this environment, or of a toolkit of the system; None if there is none."""
    for folder in _folders():
        found = sorted(folder.glob("libnvrtc.so.*"))
        if found:
            return found[-1].resolve()
    return None


def include_folders(library: Path) -> list[Path]:
    """Where the toolkit's headers (`cuda_fp16.h`) lie that belong to the library; may be empty."""
    roots = [library.parent.parent, library.parents[2], *library.parents[2].glob("*")]
    places = [root / folder for root in roots for folder in ("include", "include/cccl")]
    return [
        place for place in dict.fromkeys(places) if any((place / has).exists() for has in ("cuda_fp16.h", "cuda/std"))
    ]


@cache
def load(library: str) -> ctypes.CDLL:
    """The library. Raises OSError if it cannot be loaded."""
    return ctypes.CDLL(library)


def version(library: str) -> str:
    """The library's version, such as `13.0`. Raises OSError if it cannot be loaded."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    load(library).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile_cubin(library: ctypes.CDLL, source: bytes, name: str, options: list[str]) -> tuple[bytes | None, bytes]:
    """The cubin (None if the source is wrong) and the compiler's log. Raises OSError if the compiler itself fails."""
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    program = ctypes.c_void_p()
    texts, names = (
        (ctypes.c_char_p * len(HEADERS))(*(text.encode() for text in part)) for part in (HEADERS.values(), HEADERS)
    )
    created = library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), len(HEADERS), texts, names)
    _check(library, created)
    options = [*options, f"--pre-include={PRELUDE}"]
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    result = library.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    _check(library, library.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(max(1, size.value))
    _check(library, library.nvrtcGetProgramLog(program, log))
    if result == COMPILATION:
        return None, log.value
    _check(library, result)
    _check(library, library.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    cubin = ctypes.create_string_buffer(max(1, size.value))
    _check(library, library.nvrtcGetCUBIN(program, cubin))
    return cubin.raw[: size.value], log.value


def _check(library: ctypes.CDLL, result: int) -> None:
    if result != SUCCESS:
        raise OSError(f"NVRTC: {library.nvrtcGetErrorString(result).decode()}")


def _folders() -> list[Path]:
    folders = []
    spec = importlib.util.find_spec("nvidia")  # a namespace of several wheels
    for place in spec.submodule_search_locations or [] if spec else []:
        folders += [*sorted(Path(place).glob("cu*/lib"), reverse=True), Path(place) / "cuda_nvrtc" / "lib"]
    folders += [Path(sys.prefix) / "lib", Path("/usr/local/cuda/lib64")]
    folders += [Path("/usr/lib") / f"{machine}-linux-gnu" for machine in ("x86_64", "aarch64")]
    return folders
