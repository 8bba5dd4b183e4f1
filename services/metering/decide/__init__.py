"""One file per group of commands; each function decides one command under the lock."""
