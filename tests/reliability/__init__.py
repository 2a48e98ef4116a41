"""Proof that nothing breaks, is lost or lies: kills at random moments, inputs that are hostile."""
