"""A pool of candidates of two small tasks, with its outcome matrix, collected once a process."""

import functools

from tests.verification.small_functions import CONFIG, task
from vegflow.verification.pool import Collected, collect_functions

PIPELINES = {
    "syntax": ["syntax"],
    "lint": ["syntax", "lint"],
    "import": ["import", "majority"],
    "one": ["one_test", "majority"],
    "three": [{"tests": 3}, "length"],
    "capped": [{"capped": 0.1}, {"majority": "top 1"}],
    "first": [{"full": "first"}],
    "first two": ["one_test", {"surprisal": "top 3"}, {"full": "first 2"}],
    "agree": ["syntax", {"agreement": "top 2"}, {"full": "first"}],
    "after": ["majority", {"confidence": "top 2"}],
    "stored": [{"orm": "top 2"}, "full"],
    "random": ["majority", {"random": "top 3"}, {"full": "first"}],
    "oracle": ["oracle"],
}
ADD = task("add", "assert add(1, 2) == 3\nassert add(0, 0) == 0\nassert add(-1, 1) == 0\nassert add(2, 5) == 7")
LAST = task(
    "last", "assert last([1, 2]) == 2\nassert last('ab') == 'b'\nassert last([[]]) == []\nassert last([0]) == 0"
)
TASKS = {each.id: each for each in (ADD, LAST)}
BODIES = {
    "T/add": [
        "    return values[0] + values[1]\n",
        "    return sum(values)\n",
        "    return values[0] - values[1]\n",
        "    return values[0] + y\n",
        "    return 3\n",
        "    return (\n",
        "    while values[0] == 0:\n        pass\n    return sum(values)\n",
        "    return values[0] + values[1]\n",
        "    # plainly\n    return values[0] + values[1]\n",
        "    return 3\n",
        "    return values[0] | values[1]\n",
    ],
    "T/last": [
        "    return values[0][-1] or None\n",
        "    return values[0][0]\n",
        "    return None\n",
        "    return values[0][-1]\n",
        "    return values[0][0]\n",
        "    import no_such_module\n",
    ],
}
CONFIG = CONFIG.model_copy(update={"pipelines": {name: tuple(stages) for name, stages in PIPELINES.items()}})


@functools.cache
def collected() -> Collected:
    """The pool and its checks."""
    rollouts = [
        {
            "task_id": task_id,
            "completion": body,
            "logprob": -1.5 * ((7 * number) % 5),
            "n_tokens": 9,
            "finish_reason": "stop",
        }
        for task_id, bodies in BODIES.items()
        for number, body in enumerate(bodies)
    ]
    return collect_functions(rollouts, TASKS, CONFIG)


def scores() -> dict:
    """Of a reward model that likes short programs, a little."""
    return {
        "orm": {(row["task_id"], row["completion_sha256"]): -float(len(row["program"]) % 7) for row in collected().pool}
    }
