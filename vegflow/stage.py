"""What every script of the workflow shares: arguments from the rule, one-line errors, progress with a flush."""

import argparse
import errno
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vegflow.errors import VegflowError

_STARTED = time.monotonic()


def run(
    main: Callable[[argparse.Namespace], None],
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    many: Sequence[str] = (),
) -> None:
    """Parse `--name value` arguments and call `main`; a VegflowError ends the job with its message and no traceback,
    and so does a full disk.

    Values are text (None for an empty optional one), those of `many` lists of text; `options` is decoded from JSON. All jobs take
    `--threads` and `--gpus`.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    for name in required:
        parser.add_argument(f"--{name}", required=True, type=json.loads if name == "options" else str)
    for name in optional:
        parser.add_argument(f"--{name}", type=lambda text: text or None)
    for name in many:
        parser.add_argument(f"--{name}", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    args = parser.parse_args()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(args.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)  # else threads add gradients in the order they come
        torch.utils.deterministic.fill_uninitialized_memory = False  # takes time, and changes no result
    try:
        main(args)
    except VegflowError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"{Path(sys.argv[0]).name}: the disk is full{where}; free some space and start again, nothing is lost")


def progress(text: Any) -> None:
    """Print a line of progress with the seconds since the start, at once."""
    print(f"[{time.monotonic() - _STARTED:7.1f} s] {text}", flush=True)
