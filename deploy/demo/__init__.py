"""The demo: rendered videos, ingested and searched through the real stack."""
