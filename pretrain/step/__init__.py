"""How a step is carried out: recomputation, precision, memory format, optimizer, many processes."""
