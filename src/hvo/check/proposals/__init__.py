"""The proposals for arm64 beside each other."""
