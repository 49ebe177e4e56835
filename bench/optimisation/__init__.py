"""Steps that climb an objective: what a method is, and the optimisers. Problems and fits are built on it."""
