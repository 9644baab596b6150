"""The state that the checker explores."""
