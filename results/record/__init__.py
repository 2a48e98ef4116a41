"""The run record: what a run leaves behind. Imports nothing else of this project."""
