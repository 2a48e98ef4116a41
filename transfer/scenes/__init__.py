"""The embedded data: drawn scenes as detection datasets."""
