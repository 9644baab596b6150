"""A fleet of hosts as one table: what struct pages cost, what is saved, what could be, and which
one action gains most.
"""
