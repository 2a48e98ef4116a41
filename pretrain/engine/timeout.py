"""The one stated time of a run: ``COLLECTIVE_TIMEOUT`` in the environment, in seconds."""

import os

VARIABLE = "COLLECTIVE_TIMEOUT"
DEFAULT_S = 600


def collective_timeout_s() -> float:
    """The longest that an iteration may take, that processes wait for each other at the start, and
    that a run may live on once it was told to stop.

    Raises:
        ValueError: the variable holds no number of seconds.
    """
    text = os.environ.get(VARIABLE, str(DEFAULT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < float("inf"):
        raise ValueError(f"{VARIABLE} is {text!r}; expected a number of seconds, 1 or more")
    return seconds
