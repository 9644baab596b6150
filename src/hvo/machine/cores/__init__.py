"""Machines loaded from cores and saved as cores."""
