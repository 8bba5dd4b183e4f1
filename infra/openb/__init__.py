"""Brings a cluster trace in the openb format into a commons, through the public API alone."""
