"""The search over gRPC: the function that answers `POST /v1/search`, on a port of its own.

`search.proto` is the contract; `search_pb2.py` and its types are generated from it by `make proto`.
"""
