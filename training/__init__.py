"""Training of what the project trains itself: the mini models and the fusion network."""
