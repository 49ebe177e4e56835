"""What this project itself costs: goals, the floor of its noise, other libraries, what timings can tell apart, and the
benchmark gate. Nothing of the product imports it.
"""
