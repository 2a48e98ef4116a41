"""Processes that would not compute the same run refuse to start it together."""

import hashlib
import json
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.dist import all_gather_object

from pretrain.engine.same_config import what_counts
from results.record.environment import package_versions
from results.record.text import some_of

PACKAGES = ("pretrain", "transfer", "results")
MAX_DIFFERENCES = 10  # in one message
MAX_VALUE = 60  # characters
Facts = dict[str, str]


def settle(attempt: Callable[[], Facts]) -> None:
    """Let every process prepare its run; go on if all could, and found the same.

    Args:
        attempt: prepares this process's run and returns what must be equal everywhere.

    Raises:
        ValueError: in every process: what one of them found wrong, or which of them differ in what.
    """
    facts: Facts = {}
    fault = ""
    try:
        facts = attempt()
    except (ValueError, OSError) as error:
        fault = words_of(error)
    found: list[tuple[str, str, Facts]] = all_gather_object((socket.gethostname(), fault, facts))
    hosts = [host for host, _, _ in found]
    faults = [fault for _, fault, _ in found]
    if any(faults):
        alike = len(set(faults)) == 1
        raise ValueError(faults[0] if alike else "; ".join(who_has_what(faults, hosts)))
    if differing := differences([facts for _, _, facts in found], hosts):
        more = [f"and {len(differing) - MAX_DIFFERENCES} more"] * (len(differing) > MAX_DIFFERENCES)
        raise ValueError(
            f"the {len(found)} processes would not compute the same run; give them the same "
            "config, data, code and packages:\n  "
            + "\n  ".join([*differing[:MAX_DIFFERENCES], *more])
        )


def words_of(error: ValueError | OSError) -> str:
    """What an error says; the system's own without its number, with the file first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def differences(facts: Sequence[Facts], hosts: Sequence[str]) -> list[str]:
    """What is not the same in all processes, with the values and who has them.

    Args:
        facts: by rank.
        hosts: by rank.
    """
    values = {
        name: [short(found.get(name, "nothing")) for found in facts]
        for name in sorted({name for found in facts for name in found})
    }
    return [
        f"{name}: {', '.join(who_has_what(found, hosts))}"
        for name, found in values.items()
        if len(set(found)) > 1
    ]


def facts_of(config: str) -> Facts:
    """What has to be equal in all processes: every value of the config, data, code and packages.

    Args:
        config: from :func:`pretrain.engine.same_config.config_text`.
    """
    root = Path(__file__).resolve().parents[2]
    facts = {f"config {name}": str(v) for name, v in what_counts(json.loads(config)).items()}
    facts |= {f"package {name}": version for name, version in package_versions().items()}
    for path in sorted(path for name in PACKAGES for path in (root / name).rglob("*.py")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        facts[f"code {path.relative_to(root)}"] = digest
    return facts


def who_has_what(values: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """``VALUE on rank 1 (host)`` for every value but "", that of most ranks last."""
    ranks: dict[str, list[str]] = defaultdict(list)
    for rank, value in enumerate(values):
        ranks[value].append(f"rank {rank} ({hosts[rank]})")
    rarest_first = sorted(ranks.items(), key=lambda item: len(item[1]))
    return [f"{value} on {some_of(who)}" for value, who in rarest_first if value]


def short(value: str) -> str:
    """A digest by its first 12 digits, another long value by its beginning and a digest."""
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    if len(value) <= MAX_VALUE:
        return value
    return f"{value[:MAX_VALUE]}... ({hashlib.sha256(value.encode()).hexdigest()[:8]})"
