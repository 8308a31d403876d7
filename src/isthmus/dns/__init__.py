"""Which answer does a name get? Question and name table in, answer out (answers), and a thin server.

Never here: how the table came to be (discovery.naming).
"""
