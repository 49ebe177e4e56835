"""Calibration: how far timings of identical code differ on this machine, and whether `gradmeter compare` allows for it.

`python -m gradmeter.bench.performance.calibration COMMAND`, where COMMAND is

    aa          A/A pairs: identical calls timed as two, interleaved as in every run
    compare     identical runs, each timed by two processes, compared with each other; and runs with an injected
                slowdown of 15 % and an injected variance of 5 %
    report      results/calibration from the measurements

`make calibrate` runs all three, about 25 minutes on two cores; let nothing else run.

Every process writes a file to .gradmeter/calibration, and what has a file is not measured again, so a calibration can
be interrupted and resumed. The constants `SWING` and `CALLED` of `gradmeter.bench.comparison` come from here.
"""
