"""Calibration: how far timings of identical code differ here, and whether `gradmeter compare` sees through it.

`python -m gradmeter.bench.performance.calibration COMMAND`, where COMMAND is

    aa          A/A pairs: identical calls timed as two, interleaved as in every run
    compare     identical runs, each timed by two processes, against one another; and runs with a planted slowdown of
                15 % and a planted variance of 5 %
    report      results/calibration from what was measured

`make calibrate` runs all three, about 25 minutes on two cores; let nothing else run.

Every process leaves a file in .gradmeter/calibration and one that is there is not measured again, so it can be stopped
and taken up. The constants `SWING` and `CALLED` of `gradmeter.bench.comparison` come from here.
"""
