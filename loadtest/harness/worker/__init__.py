"""What runs in the generator's processes: targets, their clients, and what fires on schedule."""
