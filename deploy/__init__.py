"""The local stack and its supervisor."""
