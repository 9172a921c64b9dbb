"""Where all randomness comes from: a stream of its own for everything that is drawn, named by what it is for."""

import numpy as np

from vegflow.artifacts.io import digest


def stream(*key: object) -> np.random.Generator:
    """A generator seeded by its key alone: the same key gives the same numbers, whatever else is drawn or when."""
    return np.random.Generator(np.random.Philox(key=int(digest(*key)[:32], 16)))
