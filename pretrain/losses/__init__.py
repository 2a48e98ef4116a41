"""The losses of local units, one file each."""
