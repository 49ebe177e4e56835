"""The harness that runs the adapters: tasks, environments, the protocol, and the run itself."""
