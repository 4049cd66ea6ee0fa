"""The Triton models: one folder each, with its configs and its Python code."""
