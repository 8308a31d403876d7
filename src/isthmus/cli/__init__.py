"""What people type and read: commands, tables, progress, errors.

Never here: work that another program could not reuse from a package below.
"""
