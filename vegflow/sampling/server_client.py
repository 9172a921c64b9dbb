"""Talking to a running server: JSON over HTTP, with a timeout, further tries and errors as sentences.

Knows HTTP and how vLLM says what is wrong; what is asked for is `vegflow.sampling.server_engine`.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from vegflow.errors import VegflowError

BUSY = (429, 502, 503, 504)
PAUSE_S = 0.5
"""Before the second try; twice as long before each further one."""


class RefusedError(VegflowError):
    """The server answered that it will not; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A server's address, and how patient to be with it."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 600, retries: int = 3) -> None:
        self.url, self.timeout_s, self.retries = url.rstrip("/"), timeout_s, retries
        self.headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def ask(self, path: str, body: Mapping[str, Any] | None = None, retries: int | None = None) -> Any:
        """The decoded answer to GET, or to POST of a body.

        Raises RefusedError with the server's own words, or VegflowError if it cannot be reached or does not speak JSON; a broken
        connection and a busy server are tried again.
        """
        left = self.retries if retries is None else retries
        data = None if body is None else json.dumps(body).encode()
        for number in range(left + 1):
            if number:
                time.sleep(PAUSE_S * 2 ** (number - 1))
            request = urllib.request.Request(f"{self.url}{path}", data=data, headers=self.headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                    text = answer.read().decode()
                break
            except urllib.error.HTTPError as error:
                if error.code not in BUSY or number == left:
                    raise RefusedError(self._refusal(path, error), error.code) from error
            except (urllib.error.URLError, OSError) as error:
                if number == left:
                    raise VegflowError(self._absence(error)) from error
        try:
            return json.loads(text) if text[:1] in ("{", "[") else text
        except ValueError as error:
            raise VegflowError(
                f"the server at {self.url} answered {path} with what is not JSON: {text[:80]}"
            ) from error

    def _absence(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return (
                f"the server at {self.url} did not answer within {self.timeout_s:g} s; raise server.timeout_s in the "
                "model's file, or look at the server"
            )
        return f"there is no server at {self.url} ({reason}); start it, or set sampling.url to where it is"

    def _refusal(self, path: str, error: urllib.error.HTTPError) -> str:
        text = error.read().decode(errors="replace")
        try:
            said = json.loads(text)
            said = said.get("error", said)
            said = said.get("message") or said.get("detail") or text if isinstance(said, dict) else said
        except ValueError:
            said = text
        if error.code == 401:
            said = (
                f"{said}; name the environment variable that holds its API key in the model's file, server.key_variable"
            )
        return f"the server at {self.url} refused {path} ({error.code}): {str(said).strip()[:400]}"
