"""The door to Milvus: a collection a leg and bundle, made again from the catalogue when lost."""
