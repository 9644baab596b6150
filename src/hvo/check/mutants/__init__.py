"""Mutants of the protocols, and why some survive."""
