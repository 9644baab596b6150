"""What each step does, one memory access at a time."""
