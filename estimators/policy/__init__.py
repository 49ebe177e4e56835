"""Policy gradients of sequence policies, as trainers of language models compute them."""
