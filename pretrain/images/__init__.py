"""Images from disk to pixels: lists, decoding, two augmented views, labels."""
