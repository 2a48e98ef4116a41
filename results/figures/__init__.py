"""From records to the paper's figures."""
