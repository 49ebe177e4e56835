"""Advice on a model of a user's own: which estimator to use, by how much it is better, and how sure that is."""
