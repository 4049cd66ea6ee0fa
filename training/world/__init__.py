"""The made-up world: what is drawn, heard and said in it, and how it is captioned."""
