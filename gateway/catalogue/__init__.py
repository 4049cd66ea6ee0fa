"""The catalogue: videos, segments, the PIX ledger and jobs, in SQLite or PostgreSQL. The truth."""
