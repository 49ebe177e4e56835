"""Where the time goes, and what was tried, by what a goal's line begins with: told where the goal is not met."""

from __future__ import annotations

TRIED = {
    "kernel over its noise: numpy": (
        "The profile: the estimate costs 0.15 to 0.3 of the noise, the statistics 0.2. Both are passes over a block "
        "that lies in cache; fewer passes (third and fourth moments from a part of the blocks) were not tried, because "
        "skewness and the interval would then rest on fewer replicates than the row says."
    ),
    "kernel over its noise: torch": (
        "The profile: the estimate costs 0.2 of the noise, the statistics 0.2, the guards of a compiled call 0.03. "
        "Tried without gain: one concatenated array out of the kernel in place of several, skipping the guards, blocks "
        "of 2^16 and of 2^18 numbers in place of 2^17, noise inside the compiled function (5 times slower)."
    ),
    "kernel over its noise: jax": (
        "The profile: noise and estimate fuse into 0.97 to 1.2 of the noise alone; the statistics cost 0.2 to "
        "0.35, because XLA reduces over replicates in a pass of its own for each output. Tried without gain: "
        "products with ones in place of sums (5 % faster in a plain [D, R] kernel, 2 to 3 times slower behind the "
        "transpose that [R, D] needs), layout constraints, optimisation barriers, einsum, stacked or concatenated "
        "sums. With S samples the mean over S is one more pass; the sample axis in front of the replicates, [S, "
        "R, D], would fuse it, and is another convention for every estimator."
    ),
    "one estimate over a hand-written step: numpy": (
        "The profile: the recorded estimate takes no longer than the arithmetic of the hand-written step; what is left "
        "is the way to it, the check of shapes and the noise by name. Interpreted, the estimate took 1.9 of the step: "
        "50 small functions, each a microsecond or less."
    ),
    "one estimate over a hand-written step: torch": (
        "What PyTorch looks at before it calls a compiled function, of which a function of three tensors has less, and "
        "the noise by name. Not looking at what this package's modules hold saved a seventh; passing one flat tuple of "
        "tensors in place of dicts saved nothing. Compiled ahead of time (`aot_compile`, its guards off) the function "
        "takes half as long; it was not taken, for nothing would then see arguments of another shape."
    ),
    "the whole program over its kernel": (
        "At D = 10 the whole run takes 0.3 to 0.6 seconds, and what is not kernel 0.06 to 0.1 of them. A third to"
        " a half of that is fixed: the store's file is made, committed to twice and closed, each waiting for the "
        "disk, which is what keeps results through a power cut; not waiting while the file is still empty was "
        "measured to save a fifth of it, and not done. The rest is a look at every Q in float64, for its sums, "
        "its square and the largest: some 60 microseconds a block of 12,288 replicates, for which the kernel on "
        "PyTorch takes 500. Looking at blocks as they come, while they are in the cache, in place of sixteen at a"
        " time, made it a third of what it was; looks that cannot be the last go without a tail index. Adding "
        "these sums inside the kernel was not tried: κ would rest on float32, and the largest would still be "
        "looked for."
    ),
    "seconds against draws": (
        "One estimate of a million numbers no longer fits into the cache, so each number costs more than one of a "
        "small estimate, and the slope over three decades is above 1."
    ),
    "peak memory, 100 times the replicates": (
        "The largest squared norms are kept for the tail index: 3√n numbers, 30,000 at 10^8 replicates. That is not "
        "what is seen on JAX, whose process grows by some 25 MiB up to 8 million replicates, and from there to 270 "
        "million by 16 MiB; where that lies, in XLA or in the C library's allocator, was not found out."
    ),
}
