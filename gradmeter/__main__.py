"""`python -m gradmeter`: the command line."""

from gradmeter.bench.cli import script

if __name__ == "__main__":
    script()
