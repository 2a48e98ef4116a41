"""README's tables and pictures, from results/measured."""
