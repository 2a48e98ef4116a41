"""The command ``python -m results.tsne``: t-SNE of features."""

import sys

from results.figures.tsne import main

if __name__ == "__main__":
    sys.exit(main())
