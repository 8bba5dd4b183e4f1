"""The agent: meters the machine it runs on, keeps a spool of signed-for readings, and sends heartbeats and batches."""
