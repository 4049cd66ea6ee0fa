"""Reports of a run: HTML with inline SVG, Markdown."""
