"""Runs in the container, with Debian's own Python and nothing else: the steps of a plan, one after the other.

    inside.py PLAN.json

The plan is a list of [name, script, pattern]; each script is run by bash with -e, -u and pipefail, whatever became of
those before it. A script with a pattern only looks at something: it is run until its output matches. One line of JSON
is printed after each step: [name, status, output, seconds].
"""

import json
import re
import subprocess
import sys
import tempfile
import time

SECONDS = 180  # for one step
PATIENCE = 60  # for what is looked at to come true


def run(script):
    """Exit status (124: out of time) and output. A file takes the output: a daemon may keep a pipe open."""
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/root",
                timeout=SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        output.seek(0)
        return status, output.read().decode("utf-8", "backslashreplace")


def run_until(script, pattern):
    """The same; again and again while the output does not match and there is time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        status, output = run(script)
        whole = output if output.endswith("\n") else output + "\n"
        if not pattern or (status == 0 and re.fullmatch(pattern, whole)) or time.monotonic() > deadline:
            return status, output
        time.sleep(0.2)


def main(plan_file):
    """Runs the plan; prints what happened."""
    with open(plan_file, encoding="utf-8") as file:
        plan = json.load(file)
    for name, script, pattern in plan:
        began = time.monotonic()
        status, output = run_until(script, pattern)
        print(json.dumps([name, status, output, round(time.monotonic() - began, 2)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
