"""What is said in a video: subtitles that came with it, its own track, or Whisper; with times."""
