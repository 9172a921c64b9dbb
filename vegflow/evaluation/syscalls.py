"""The system calls a worker may not make, as a classic BPF program for seccomp.

Knows call numbers of two architectures; whether the kernel takes the program is said in `isolation`.
"""

import errno
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name -> (x86_64, aarch64); None where the architecture has no such call
CALLS: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # signals that come from the kernel by themselves: one of them can be the SIGCONT that wakes a stopped worker
    "timer_create": (222, 107),
    "mq_notify": (244, 184),
    # work that goes on, and answers that come, while a worker is stopped
    "io_setup": (206, 0),
    "seccomp": (317, 277),
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
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "name_to_handle_at": (303, 264),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "cachestat": (451, 451),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sync": (162, 81),
    "syncfs": (306, 267),
    # pages that others share, and which memory pages lie in
    "fallocate": (285, 47),
    "remap_file_pages": (216, 234),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "memfd_secret": (447, 447),
    # objects that outlive a process
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # the clock's footing: the judge chooses the core and the priority
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
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
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "personality": (135, 92),
    "lsm_set_self_attr": (460, 460),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
}
DENIED = tuple(CALLS)
NUMBERS = {
    machine: [numbers[index] for numbers in CALLS.values() if numbers[index] is not None]
    for index, machine in enumerate(ARCHITECTURES)
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_KILL = {"x86_64": (62, 234, 129, 297), "aarch64": (129, 131, 138, 240)}  # kill, tgkill, rt_(tg)sigqueueinfo
_PRCTL = {"x86_64": 157, "aarch64": 167}
_PRLIMIT64 = {"x86_64": 302, "aarch64": 261}
_MADVISE = {"x86_64": 28, "aarch64": 233}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_BUILDING = ("fork", "vfork", "execve", "fallocate")  # a linker reserves room for what it writes
_LEAVING = ("setsid", "setpgid")
CLONE_THREAD = 0x00010000
CLONE_ELSEWHERE = 0x7E028000  # a child in namespaces of its own, or of another parent
PRCTL_DENIED = (
    1,  # PR_SET_PDEATHSIG: outlives its parent, or has a signal sent when a thread of it ends
    4,  # PR_SET_DUMPABLE: a judge that is not root could no longer read its memory
    22,  # PR_SET_SECCOMP
    35,  # PR_SET_MM
    36,  # PR_SET_CHILD_SUBREAPER
    53,  # PR_SET_SPECULATION_CTRL: another speed than the reference's
    62,  # PR_SCHED_CORE: nobody else on the core's other thread
    0x59616D61,  # PR_SET_PTRACER
)
MADVISE_DENIED = (9, 20, 21, 25, 100, 101)
"""REMOVE, COLD, PAGEOUT, COLLAPSE, HWPOISON, SOFT_OFFLINE: they take pages away from everybody who has them mapped."""
FCNTL_DENIED = (8, 10, 15, 1024, 1026)
"""SETOWN, SETSIG, SETOWN_EX, SETLEASE, NOTIFY: signals on what a descriptor does, SIGCONT among them."""
IOCTL_DENIED = (
    *(0x5452, 0x8901, 0x8902),  # FIOASYNC, FIOSETOWN, SIOCSPGRP: the same in other words
    *(0x40305828, 0x40305829, 0x4030582A, 0x4030582B, 0x40305839),  # FS_IOC_(UN)RESVSP(64), ZERO_RANGE: fallocate's
    *(0x5412, 0x540E, 0x541C),  # TIOCSTI, TIOCSCTTY, TIOCLINUX: terminals
)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def _judge(number: int, code: int, *values: int, match: int, otherwise: int, argument: int = 0) -> bytes:
    """For call `number`: return `match` if the low half of an argument matches one of `values`, `otherwise` if none.

    The half is all there is of an `int`, which the arguments tested here are; of `clone`'s flags it holds all.
    """
    tests = b"".join(_step(code, value, len(values) - index, 0) for index, value in enumerate(values))
    body = _step(_LOAD, _ARGUMENTS + 8 * argument) + tests + _step(_RETURN, otherwise) + _step(_RETURN, match)
    return _step(_EQUAL, number, 0, len(body) // 8) + body


def seccomp_program(machine: str, pid: int, *, builds: bool = False) -> bytes:
    """The filter, 8 bytes an instruction: allow by default, refuse the table, and judge some calls by an argument.

    Threads may be made, processes not; signals may go to `pid` itself only. A process that `builds` may start
    processes, which stay in its group whatever they ask for: leaving it is answered as if it had been done.
    """
    denied = _ERRNO | errno.EPERM
    refuse = _step(_RETURN, denied)
    program = _step(_LOAD, _ARCHITECTURE) + _step(_EQUAL, ARCHITECTURES[machine], 1, 0) + refuse
    program += _step(_LOAD, _NUMBER)
    if machine == "x86_64":  # the x32 calls are a second set of the same numbers
        program += _step(_AT_LEAST, 0x40000000, 0, 1) + refuse
    by_command = ((_MADVISE, 2, MADVISE_DENIED), (_FCNTL, 1, FCNTL_DENIED), (_IOCTL, 1, IOCTL_DENIED))
    for numbers, argument, commands in by_command:  # first: the kernel runs the filter for each of these calls
        program += _judge(numbers[machine], _EQUAL, *commands, match=denied, otherwise=_ALLOW, argument=argument)
    column = list(ARCHITECTURES).index(machine)
    special = {CALLS[name][column] for name in (*_BUILDING, *_LEAVING)} if builds else set()
    for number in NUMBERS[machine]:
        if number not in special:
            program += _step(_EQUAL, number, 0, 1) + refuse
    for name in _LEAVING if builds else ():
        program += _step(_EQUAL, CALLS[name][column] or 0, 0, 1) + _step(_RETURN, _ERRNO)
    program += _step(_EQUAL, _CLONE3, 0, 1) + _step(_RETURN, _ERRNO | errno.ENOSYS)  # libc then takes clone
    if builds:
        program += _judge(_CLONE[machine], _ANY_BIT, CLONE_ELSEWHERE, match=denied, otherwise=_ALLOW)
    else:
        program += _judge(_CLONE[machine], _ANY_BIT, CLONE_THREAD, match=_ALLOW, otherwise=denied)
    for number in _KILL[machine]:
        program += _judge(number, _EQUAL, pid, match=_ALLOW, otherwise=denied)
    program += _judge(_PRLIMIT64[machine], _EQUAL, 0, pid, match=_ALLOW, otherwise=denied)
    program += _judge(_PRCTL[machine], _EQUAL, *PRCTL_DENIED, match=denied, otherwise=_ALLOW)
    return program + _step(_RETURN, _ALLOW)
