"""The command that draws features, as a shell sees it."""

import runpy
import sys

import pytest


def test_an_error_is_an_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tsne", str(tmp_path / "no.npz"), "--out", "fig3"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("results.tsne", run_name="__main__")
    assert stopped.value.code == 1 and "error: no feature file" in capsys.readouterr().err
