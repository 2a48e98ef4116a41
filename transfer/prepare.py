"""The command ``python -m transfer.prepare``: datasets for detectors."""

from transfer.data.prepare import main

if __name__ == "__main__":
    main()
