"""What can go wrong for a user, as one sentence: what, where, how to fix it."""


class VegflowError(Exception):
    """Something the user can mend; scripts print its message without a traceback."""


class ConfigError(VegflowError):
    """The study, a model file or a task source is not usable as written."""


class ArtifactError(VegflowError):
    """A file does not hold what its schema says."""
