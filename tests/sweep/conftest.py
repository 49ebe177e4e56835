from tests.cli.running import run_cli as run_cli
