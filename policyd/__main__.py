"""`python -m policyd` is the command `policyd`."""

from policyd.cli.main import run

if __name__ == "__main__":
    run()
