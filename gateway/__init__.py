"""The HTTP search API: a thin Litestar application over Triton, Milvus and the catalogue."""
