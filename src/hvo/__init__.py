"""HugeTLB vmemmap optimisation as a program: run it, prove it, watch it."""

__version__ = "0.1.0"
