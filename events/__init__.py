"""The language of the commons: facts, their one byte form, and the ports they travel through."""
