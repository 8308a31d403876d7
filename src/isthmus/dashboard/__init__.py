"""The mesh as a picture, in a browser.

Never here: data that no command line shows.
"""
