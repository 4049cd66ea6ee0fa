"""Programs that measure other servers beside ours."""
