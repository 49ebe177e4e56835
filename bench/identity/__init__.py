"""What an object is: whose it is, and a digest of its content."""
