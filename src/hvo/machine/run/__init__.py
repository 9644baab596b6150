"""One run of `hvo run`, measured."""
