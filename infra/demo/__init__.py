"""The demo: the shipped community lives through a day, and what can be proved about it is printed."""
