"""Variational autoencoders: networks, likelihoods, and the problems made of them."""
