"""From records to the paper's tables."""
