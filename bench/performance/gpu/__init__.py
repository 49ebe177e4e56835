"""What a graphics card makes of the kernels: `make gpu`, at most 8 minutes on one card.

Each part runs in a process of its own with a deadline, and writes its file as it goes, so a part that fails or takes
too long costs no other: `agreement` (the card against the CPU), `crossover` (from how many replicates a call the card
is faster), `noise_floor` (the kernel against the noise alone). `page` writes the report from these files. A part takes
the device as an argument, so that its code runs on the CPU in tests.
"""
