"""What every service stands on: deciders, the one command path, policies, directory, clock, errors, the HTTP edge."""
