"""Gaussian mixtures: data, EM and coordinate-ascent VI, and the problems built on them."""
