"""The treasury: the book of record for the community's asset, its supply, and what epochs pay."""
