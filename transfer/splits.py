"""The command ``python -m transfer.splits``: COCO-10K and COCO-1K."""

from transfer.data.splits import main

if __name__ == "__main__":
    main()
