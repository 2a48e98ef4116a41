"""A file that its user may not read, for a test that runs as root too."""

from pathlib import Path


def forbid(monkeypatch, path):
    """As for a user who may not read the file; root may read all."""
    real = Path.open

    def open_(self, mode="r", *args, **kwargs):
        if self == path and "r" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)
