"""The search for the shortest violation."""
