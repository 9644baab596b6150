"""A trace: its token, its replay on bytes, its words."""
