"""Processes that would not compute the same run refuse to start it together."""

import hashlib
import json
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.dist import all_gather_object

from pretrain.engine.resume import what_counts
from results.record.environment import package_versions

PACKAGES = ("pretrain", "transfer", "results")
SHOWN = 10  # differences in one message
LONGEST = 60  # characters of a value
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
        raise ValueError(faults[0] if alike else "; ".join(_by_value(faults, hosts)))
    if differing := differences([facts for _, _, facts in found], hosts):
        more = [f"and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
        raise ValueError(
            f"the {len(found)} processes would not compute the same run; give them the same "
            "config, data, code and packages:\n  " + "\n  ".join([*differing[:SHOWN], *more])
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
    names = sorted({name for some in facts for name in some})
    values = {name: [some.get(name, "nothing") for some in facts] for name in names}
    return [
        f"{name}: {', '.join(_by_value([_short(value) for value in found], hosts))}"
        for name, found in values.items()
        if len(set(found)) > 1
    ]


def facts_of(config: str) -> Facts:
    """What has to be equal in all processes: every value of the config, data, code and packages.

    Args:
        config: from :func:`pretrain.engine.launch.config_text`.
    """
    root = Path(__file__).resolve().parents[2]
    sources = sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))
    return {
        **{f"config {name}": str(value) for name, value in what_counts(json.loads(config)).items()},
        **{
            f"code {path.relative_to(root)}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sources
        },
        **{f"package {name}": version for name, version in package_versions().items()},
    }


def _by_value(values: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """``VALUE on rank 1 (host)`` for every value but "", that of most ranks first."""
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, value in enumerate(values):
        ranks[value].append(rank)
    return [
        f"{value} on {_named(who, hosts)}"
        for value, who in sorted(ranks.items(), key=lambda item: -len(item[1]))
        if value
    ]


def _named(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    if len(ranks) > 3:
        return f"ranks {ranks[0]}, {ranks[1]}, ... {ranks[-1]}"
    return " and ".join(f"rank {rank} ({hosts[rank]})" for rank in ranks)


def _short(value: str) -> str:
    """A digest by its first 12 digits, another long value by its beginning and a digest."""
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    if len(value) <= LONGEST:
        return value
    return f"{value[:LONGEST]}... ({hashlib.sha256(value.encode()).hexdigest()[:8]})"
