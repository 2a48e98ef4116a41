"""What a frozen encoder knows: linear classifiers and k-NN on the features of its stages."""
