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


class ChannelClosedError(Exception):
    """The other end is gone."""


class ChannelGarbledError(Exception):
    """What arrived is no message of ours."""


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message and, with it, file descriptors. Raises ChannelClosedError or TimeoutError."""
    payload = json.dumps(message).encode()
    data = len(payload).to_bytes(HEADER, "big") + payload
    try:
        if fds:
            sent = socket.send_fds(sock, [data], list(fds))
            data = data[sent:]
        sock.sendall(data)
    except (BrokenPipeError, ConnectionError) as error:
        raise ChannelClosedError from error


def receive(
    sock: socket.socket,
    *,
    deadline: float | None = None,
    largest: int | None = None,
    descriptors: bool = False,
) -> tuple[dict[str, Any], list[int]]:
    """The next message and, with `descriptors`, the file descriptors that came with it.

    Only who trusts the other end takes `descriptors`; for others, the judge above all, the kernel closes them.
    `deadline` is on `time.monotonic()`'s clock. Raises ChannelClosedError, TimeoutError, or ChannelGarbledError if the bytes are no JSON object or are more than `largest`.
    """
    header, fds = _exactly(sock, HEADER, deadline, with_fds=descriptors)
    length = int.from_bytes(header, "big")
    if largest is not None and length > largest:
        raise ChannelGarbledError(f"a message of {length} bytes")
    payload, _ = _exactly(sock, length, deadline)
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ChannelGarbledError("not JSON") from error
    if not isinstance(message, dict):
        raise ChannelGarbledError("not a JSON object")
    return message, fds


def pending(sock: socket.socket) -> bool:
    """Whether bytes wait to be read: none may, when no question is open."""
    readable, _, _ = select.select([sock], [], [], 0)
    try:
        return bool(readable) and bool(sock.recv(1, socket.MSG_PEEK))
    except ConnectionError:
        return False


def _exactly(
    sock: socket.socket, count: int, deadline: float | None, *, with_fds: bool = False
) -> tuple[bytes, list[int]]:
    parts: list[bytes] = []
    fds: list[int] = []
    while count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        try:
            if with_fds:
                part, more, _, _ = socket.recv_fds(sock, count, 4)
                fds += more
            else:
                part = sock.recv(min(count, 1 << 20))
        except ConnectionError as error:
            raise ChannelClosedError from error
        if not part:
            raise ChannelClosedError
        parts.append(part)
        count -= len(part)
    return b"".join(parts), fds
