"""The command ``python -m results.tsne``: t-SNE of features."""

from results.figures.tsne import main

if __name__ == "__main__":
    main()
