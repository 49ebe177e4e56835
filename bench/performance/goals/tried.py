"""Notes on where the time goes and what was tried, by the start of a budget's line; written where it is not met."""

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
        "The profile: the noise, stored, costs 0.97 to 1.03 of the noise alone, which is never stored; the rest is the "
        "estimate and the statistics, 0.15 to 0.3, in passes over arrays of half a megabyte, one for each operand of "
        "a product with ones. XLA leaves sums to a library, YNNPACK, which first stores all that is summed, broadcast "
        "centres too: that was 0.9 of the leave-one-out estimate's 2.2, whose mean over S takes f times the score. "
        "Kernels whose sums are cheap now go without that library, and sums along short or replicate axes are "
        "products with ones. Tried without gain: sums by halves or by lanes behind an optimisation barrier, the mean "
        "over S as a sum of slices (2.0), one loop for several sums (reductions with several operands 2.6 times as "
        "slow; XLA's fusion of several outputs slower too), axes [S, R, D] or [D, S, R] in place of [R, S, D] (1.2 "
        "written by hand, 1.6 through a transpose), noise in four or in sixteen parts in place of two."
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
        "small estimate. As D grows on JAX, most of that is its block sums: with one replicate in a block, three "
        "numbers leave the kernel for each one drawn, in every parameter block (D = 10^5, on a busy machine: 2.2 times "
        "the noise with all three, 1.3 with two, 1.1 with one); calls now return fewer of them at once. As S grows, "
        "noise of a single large estimate was drawn again for every sum that read it, up to 6.6 times the noise; it "
        "is stored now, in parts that fit the cache."
    ),
    "peak memory, 100 times the replicates": (
        "The largest squared norms are kept for the tail index: 3√n numbers, 30,000 at 10^8 replicates. On JAX a call "
        "returned up to 16 MiB of squared norms, and the process grew by a few of such arrays, 30 to 50 MiB, before "
        "the C library's arenas (a thread each) had room for them to take turns; with one arena, or with results of at "
        "most 8 MiB, which is what it has now, it does not grow."
    ),
}
