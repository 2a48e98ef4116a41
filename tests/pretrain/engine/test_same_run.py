"""Processes with another config, other data, code or packages refuse to start together."""

import hashlib
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


def test_what_counts_is_compared_and_where_data_lie_is_not():
    config = '{"optimizer": {"lr": 0.1}, "hooks": [{"type": "A"}, {"n": 1}], "k": [1, 2]'
    facts = facts_of(f'{config}, "dataset": {{"root": "/a", "fingerprint": "{DIGESTS[0]}"}}}}')
    expected = {"optimizer.lr": "0.1", "hooks.1.n": "1", "k": "[1, 2]",
                "dataset.fingerprint": DIGESTS[0]}  # fmt: skip
    assert {f"config {name}": value for name, value in expected.items()}.items() <= facts.items()
    assert facts["package torch"] and "config dataset.root" not in facts
    source = (ROOT / "pretrain/losses/info_nce.py").read_bytes()
    assert facts["code pretrain/losses/info_nce.py"] == hashlib.sha256(source).hexdigest()


def test_what_differs_is_named_with_all_values():
    """Of five processes; the rarest value stands first."""
    facts = [{"lr": "0.1", "data": DIGESTS[0], "torch": "2.1", "k": "9"} for _ in range(5)]
    assert differences(facts, "abcde") == []
    facts[3] |= {"lr": "0.2", "data": DIGESTS[1]}
    facts[4]["k"] = "9" * 100
    del facts[1]["torch"], facts[2]["torch"]
    data, k, lr, torch = differences(facts, "abcde")
    most = "rank 0 (a), rank 1 (b), rank 2 (c), rank 4 (e)"
    assert data == f"data: fedcba987654 on rank 3 (d), 0123456789ab on {most}"
    assert lr == f"lr: 0.2 on rank 3 (d), 0.1 on {most}"
    assert torch == "torch: nothing on rank 1 (b), rank 2 (c), " \
                    "2.1 on rank 0 (a), rank 3 (d), rank 4 (e)"  # fmt: skip
    assert re.match(r"k: 9{60}\.\.\. \([0-9a-f]{8}\) on rank 4 \(e\), 9 on rank 0 \(a\), ", k)


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
