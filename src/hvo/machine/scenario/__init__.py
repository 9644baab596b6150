"""Scenario files: their words, run by `sh`."""
