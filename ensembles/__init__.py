"""The contracts of the models, the ensemble graphs, and what compiles them to Triton configs."""
