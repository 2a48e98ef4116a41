"""``python -m transfer.scenes``: see :mod:`transfer.scenes.datasets`."""

from transfer.scenes.datasets import main

if __name__ == "__main__":
    main()
