"""What surrounds a run: start, processes, exact resume, checkpoints, the run record."""
