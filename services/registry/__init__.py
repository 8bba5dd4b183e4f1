"""The registry: the community, its members, keys and roles, nodes and devices, performance tables."""
