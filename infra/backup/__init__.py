"""Backup and restore: one archive of database, keys and whatever else the home keeps."""
