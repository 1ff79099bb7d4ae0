"""What a finished run leaves on disk: one module per output."""
