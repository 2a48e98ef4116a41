"""Which runs each table needs."""
