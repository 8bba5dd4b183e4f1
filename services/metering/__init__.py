"""Metering: what may be consumed, what was measured, and what it scores."""
