"""What each step does to bytes, for one page or many."""
