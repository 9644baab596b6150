"""Hazards of vmemmap optimisation: each defect, the kernels that have it and the commit that fixed
it.
"""
