"""The pytest11 entry: hook functions only, each a few lines."""
