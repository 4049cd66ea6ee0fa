"""The way of a search: query, legs, calibration, fusion, the PIX law, groups, page."""
