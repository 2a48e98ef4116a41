"""Processes with another config, other data, code or packages refuse to start together."""

import os
import re
import shutil

import pytest

from pretrain.engine.launch import argument_parser, main
from pretrain.engine.same_run import differences, facts_of, settle
from pretrain.train import NAMES, prepare
from tests.helpers.commands import CONFIG, OPTIONS
from tests.helpers.places import ROOT
from tests.helpers.two_processes import in_two_processes

DIGESTS = ["0123456789abcdef" * 4, "fedcba9876543210" * 4]


def test_what_differs_is_named_with_both_values():
    """In two of five processes or one; the value of most stands first."""
    config = '{"optimizer": {"lr": 0.1}, "hooks": [{"type": "A"}, {"n": 1}], "k": [1, 2]'
    config += f', "dataset": {{"root": "/a", "fingerprint": "{DIGESTS[0]}"}}}}'
    facts = [facts_of(config) for _ in range(5)]
    assert {
        "config optimizer.lr": "0.1",
        "config hooks.1.n": "1",
        "config k": "[1, 2]",
    }.items() <= (facts[0].items())
    assert facts[0]["package torch"] and facts[0]["config dataset.fingerprint"] == DIGESTS[0]
    assert "config dataset.root" not in facts[0]  # where data lie may differ
    assert differences(facts, "abcde") == []
    facts[3]["config optimizer.lr"] = "0.2"
    facts[3]["config dataset.fingerprint"] = DIGESTS[1]
    facts[1]["code pretrain/losses/info_nce.py"] = DIGESTS[1]
    del facts[1]["package torch"], facts[2]["package torch"]
    facts[4]["config k"] = "9" * 100
    ours = facts[0]["code pretrain/losses/info_nce.py"][:12]
    torchs = facts[0]["package torch"]
    found = differences(facts, "abcde")
    assert found == [
        f"code pretrain/losses/info_nce.py: {ours} on ranks 0, 2, ... 4, "
        "fedcba987654 on rank 1 (b)",
        "config dataset.fingerprint: 0123456789ab on ranks 0, 1, ... 4, fedcba987654 on rank 3 (d)",
        found[2],
        "config optimizer.lr: 0.1 on ranks 0, 1, ... 4, 0.2 on rank 3 (d)",
        f"package torch: {torchs} on rank 0 (a) and rank 3 (d) and rank 4 (e), "
        "nothing on rank 1 (b) and rank 2 (c)",
    ]
    assert re.fullmatch(
        r"config k: \[1, 2\] on ranks 0, 1, \.\.\. 3, 9{60}\.\.\. \([0-9a-f]{8}\) on rank 4 \(e\)",
        found[2],
    )


def said(facts):
    """What `settle` says in a process that found ``facts``, or went wrong."""

    def attempt():
        if isinstance(facts, str):
            raise FileNotFoundError(facts)
        return facts

    try:
        settle(attempt)
    except ValueError as error:
        return str(error)
    return "agreed"


def test_two_processes_go_on_together_or_not_at_all(tmp_path):
    same = {"config lr": "0.1", "data train": DIGESTS[0]}
    cases = [
        (same, same),
        (same, same | {"config lr": "0.2"}),
        (same, "no folder of training images at x"),
        ("no config at y", "no config at y"),
    ]

    def work(rank):
        for case in cases:
            print(said(case[rank]).replace("\n", "|"))

    logs = in_two_processes(work, tmp_path)
    assert logs[0] == logs[1]
    agreed, differ, fault, both = logs[0].splitlines()
    assert agreed == "agreed" and both == "no config at y"
    assert re.fullmatch(
        r"the 2 processes would not compute the same run; .*packages:\|  "
        r"config lr: 0\.1 on rank 0 \(\S+\), 0\.2 on rank 1 \(\S+\)",
        differ,
    )
    assert re.fullmatch(r"no folder of training images at x on rank 1 \(\S+\)", fault)


def test_a_pretraining_with_another_seed_and_an_image_less(coco, tmp_path):
    """As on two nodes, each with its own disk and its own idea of the command."""
    shutil.copytree(coco / "train2017", tmp_path / "1" / "train2017")
    next(iter(sorted((tmp_path / "1" / "train2017").iterdir()))).unlink()
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "train2017").symlink_to(coco / "train2017")
    words = [str(ROOT / CONFIG), "--launcher", "pytorch", "--work-dir", str(tmp_path / "run")]

    def work(rank):
        os.chdir(tmp_path / str(rank))
        options = [*OPTIONS, "data_root=train2017", f"seed={rank}"]
        with pytest.raises(SystemExit) as end:
            main("", prepare, NAMES, argument_parser("").parse_args([*words, *options]))
        print("ends with", end.value.code)

    first, second = in_two_processes(work, tmp_path, meet=False)
    assert "ends with error: the 2 processes would not compute the same run" in first
    assert second.endswith("ends with 1\n") and "error" not in second
    assert re.search(r"\n  config seed: 0 on rank 0 \(\S+\), 1 on rank 1 \(", first)
    assert re.search(
        r"\n  config dataset.fingerprint: [0-9a-f]{12} on rank 0 .*, [0-9a-f]{12} on rank 1", first
    )
    assert not (tmp_path / "run").exists()
