"""The scenarios that come with pixserve, as TOML."""
