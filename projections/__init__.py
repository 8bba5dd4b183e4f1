"""The read side: one file per question people ask, folded from facts into tables that can be rebuilt at any time."""
