"""A video file to scenes, segments, frames, chunks, embeddings and rows."""
