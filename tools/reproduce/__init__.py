"""Everything that a table needs, run here or on Slurm."""
