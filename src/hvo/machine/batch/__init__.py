"""A block of steps for many pages at once."""
