"""The HTTP API: routes, uploads, health, metrics, and how errors and replies travel."""
