"""The write side: one package per service, and the kernel they share."""
