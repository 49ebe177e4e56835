"""Running the adapters: which peers and tasks there are, their environments, the protocol, and the run."""
