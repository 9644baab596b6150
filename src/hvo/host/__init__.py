"""What operators do on a running kernel's procfs and sysfs: see what struct pages cost, switch the
optimisation on, rebuild pools.
"""
