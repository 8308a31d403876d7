"""What do these objects say about the mesh? From API objects to model values and issues, one module for each kind.

Never here: what one proxy may know (discovery), and any exception for a user's mistake: that is an Issue.
"""
