"""The strict HTTP edge: who asks, whether they may, and each service's routes served as they are written."""
