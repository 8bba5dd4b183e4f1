"""What `commons doctor` looks at: the home, the versions, the records and what must hold between them."""
