"""Messages between the judge and its processes: JSON objects with a length in front, over a Unix socket.

Knows bytes, deadlines and passed file descriptors; nothing received is trusted, and what a message means is for others.
"""

import json
import select
import socket
import time
from typing import Any

HEADER = 4
LARGEST_REPLY = 1 << 20
AT_ONCE = 1 << 16  # bytes that are taken from a socket in one go


class ChannelClosedError(Exception):
    """The other end is gone."""


class ChannelGarbledError(Exception):
    """What arrived is no message of ours."""


def send(
    sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = (), *, timeout_s: float | None = None
) -> None:
    """Send one message and, with it, file descriptors. Raises ChannelClosedError or TimeoutError."""
    payload = json.dumps(message).encode()
    data = len(payload).to_bytes(HEADER, "big") + payload
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while data:
        try:
            flags = 0 if deadline is None else socket.MSG_DONTWAIT
            sent = socket.send_fds(sock, [data], list(fds), flags) if fds else sock.send(data, flags)
        except BlockingIOError:
            _await(sock, deadline, select.POLLOUT)
            continue
        except ConnectionError as error:
            raise ChannelClosedError from error
        data, fds = data[sent:], ()


def receive(
    sock: socket.socket,
    *,
    deadline: float | None = None,
    largest: int | None = None,
    descriptors: bool = False,
) -> tuple[dict[str, Any], list[int]]:
    """The next message and, with `descriptors`, the file descriptors that came with it.

    Only who trusts the other end takes `descriptors`; for others, the judge above all, the kernel closes them.
    `deadline` is on `time.monotonic()`'s clock. Raises ChannelClosedError, TimeoutError, or ChannelGarbledError if the
    bytes are no JSON object, are more than `largest`, or more come than that: each end speaks once when it is its turn.
    """
    data, fds = _some(sock, AT_ONCE, deadline, with_fds=descriptors)
    while len(data) < HEADER:
        data += _some(sock, AT_ONCE, deadline)[0]
    length = int.from_bytes(data[:HEADER], "big")
    if largest is not None and length > largest:
        raise ChannelGarbledError(f"a message of {length} bytes")
    parts, count = [data], len(data)
    while count < HEADER + length:
        parts.append(_some(sock, AT_ONCE, deadline)[0])
        count += len(parts[-1])
    if count > HEADER + length:
        raise ChannelGarbledError("bytes that no request asked for")
    try:
        message = json.loads(b"".join(parts)[HEADER:])
    except (ValueError, RecursionError) as error:
        raise ChannelGarbledError("not JSON") from error
    if not isinstance(message, dict):
        raise ChannelGarbledError("not a JSON object")
    return message, fds


def pending(sock: socket.socket) -> bool:
    """Whether bytes wait to be read: none may, when no question is open."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionError):
        return False


def _some(sock: socket.socket, most: int, deadline: float | None, *, with_fds: bool = False) -> tuple[bytes, list[int]]:
    """What has come, `most` bytes of it, once something has."""
    if deadline is not None:
        _await(sock, deadline, select.POLLIN)
    data, fds = b"", []
    try:
        if with_fds:
            data, fds, _, _ = socket.recv_fds(sock, most, 4)
        else:
            data = sock.recv(most)
    except ConnectionError as error:
        raise ChannelClosedError from error
    if not data:
        raise ChannelClosedError
    return data, fds


def _await(sock: socket.socket, deadline: float, event: int) -> None:
    """Wait until a socket can be read or written. Raises TimeoutError."""
    poll = select.poll()
    poll.register(sock, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(1e3 * left):
        raise TimeoutError
