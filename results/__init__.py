"""Run records in, tables, figures and a report out."""
