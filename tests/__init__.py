"""Tests of pixserve; `tests.media` makes the files they read."""
