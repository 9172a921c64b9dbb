"""The system calls a worker may not make, as a classic BPF program for seccomp.

Knows call numbers of two architectures; whether the kernel takes the program is said in `isolation`.
"""

import errno
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name -> (x86_64, aarch64); None where the architecture has no such call
_TABLE: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # network
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    # files that Landlock does not guard
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    # objects that outlive a process
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # the clock's footing: the judge chooses the core
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    # ways around all this, and the kernel itself
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "personality": (135, 92),
}
DENIED = tuple(_TABLE)
NUMBERS = {
    machine: [numbers[index] for numbers in _TABLE.values() if numbers[index] is not None]
    for index, machine in enumerate(ARCHITECTURES)
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_KILL = {"x86_64": (62, 234, 129, 297), "aarch64": (129, 131, 138, 240)}  # kill, tgkill, rt_(tg)sigqueueinfo
_PRCTL = {"x86_64": 157, "aarch64": 167}
_PRLIMIT64 = {"x86_64": 302, "aarch64": 261}
CLONE_THREAD = 0x00010000
PR_SET_PDEATHSIG = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def _judge(number: int, code: int, *values: int, match: int, otherwise: int) -> bytes:
    """For call `number`: return `match` if its first argument matches one of `values`, `otherwise` if none."""
    tests = b"".join(_step(code, value, len(values) - index, 0) for index, value in enumerate(values))
    body = _step(_LOAD, _ARGUMENT_0) + tests + _step(_RETURN, otherwise) + _step(_RETURN, match)
    return _step(_EQUAL, number, 0, len(body) // 8) + body


def seccomp_program(machine: str, pid: int) -> bytes:
    """The filter, 8 bytes an instruction: allow by default, refuse the table, and judge five calls by an argument.

    Threads may be made, processes not; signals may go to `pid` itself only.
    """
    denied = _ERRNO | errno.EPERM
    refuse = _step(_RETURN, denied)
    program = _step(_LOAD, _ARCHITECTURE) + _step(_EQUAL, ARCHITECTURES[machine], 1, 0) + refuse
    program += _step(_LOAD, _NUMBER)
    if machine == "x86_64":  # the x32 calls are a second set of the same numbers
        program += _step(_AT_LEAST, 0x40000000, 0, 1) + refuse
    for number in NUMBERS[machine]:
        program += _step(_EQUAL, number, 0, 1) + refuse
    program += _step(_EQUAL, _CLONE3, 0, 1) + _step(_RETURN, _ERRNO | errno.ENOSYS)  # libc then takes clone
    program += _judge(_CLONE[machine], _ANY_BIT, CLONE_THREAD, match=_ALLOW, otherwise=denied)
    for number in _KILL[machine]:
        program += _judge(number, _EQUAL, pid, match=_ALLOW, otherwise=denied)
    program += _judge(_PRLIMIT64[machine], _EQUAL, 0, pid, match=_ALLOW, otherwise=denied)
    program += _judge(_PRCTL[machine], _EQUAL, PR_SET_PDEATHSIG, match=denied, otherwise=_ALLOW)
    return program + _step(_RETURN, _ALLOW)
