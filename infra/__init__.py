"""The outside: adapters, settings, the platform and the command line."""
