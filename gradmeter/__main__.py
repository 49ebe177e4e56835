"""`gradmeter` and `python -m gradmeter`: the command line.

Imports nothing that takes time before Ctrl-C is handled.
"""

import os
import signal
import sys
from typing import Any, NoReturn


def _stop(number: int, frame: Any) -> None:
    """End the process at once: an exception inside an import would be shown, or be taken for another one."""
    os.write(2, b"gradmeter: error: interrupted\n")
    os._exit(128 + number)


def script() -> NoReturn:
    """Run the command line and exit; until it is imported, Ctrl-C only ends the process."""
    signal.signal(signal.SIGINT, _stop)
    if sys.argv[1:2] == ["run"]:
        from gradmeter.bench.sweep import server

        server.start_early(sys.argv[2:])
    from gradmeter.bench import cli

    cli.script()


if __name__ == "__main__":
    script()
