"""Detection datasets: checked, prepared, split."""
