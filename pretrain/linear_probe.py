"""The command ``python -m pretrain.linear_probe``: a readout of a frozen backbone."""

from pretrain.readout.linear_probe import main

if __name__ == "__main__":
    main()
