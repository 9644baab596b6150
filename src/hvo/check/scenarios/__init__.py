"""Which actors meet on which small machine."""
