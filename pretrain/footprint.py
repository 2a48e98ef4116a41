"""The command ``python -m pretrain.footprint``: what a step costs."""

from pretrain.costs.footprint import main

if __name__ == "__main__":
    main()
