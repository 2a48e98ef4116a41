"""One page that shows what ran."""
