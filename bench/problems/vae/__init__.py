"""Variational autoencoders: networks, likelihoods, and the problems built on them."""
