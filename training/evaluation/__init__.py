"""How well searches answer, on videos that are made up for it: figures with intervals."""
