"""Gaussian mixtures: points, responsibilities, likelihoods; and the problems made of them."""
