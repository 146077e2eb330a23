"""`python -m tests.bench`: policyd, a C echo and bare Twisted (and postfwd, mtpolicyd where installed) in turn.

Every round measures each server once at each number of connections, one server at a time, in another order each round;
the others stay idle meanwhile. policyd's answers are compared with the expected ones, so a fast wrong answer fails.
With `--against` this checkout's policyd is measured beside another's only.
Exit status: 0; 1 when there were errors or wrong answers; 2 when a server does not start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench import mail, workers
from tests.bench.against import ROUNDS, AgainstRow, against_line, measure_against
from tests.bench.build import build
from tests.bench.groups import Group
from tests.bench.report import Run, summary, svg, table
from tests.bench.requests import configuration, requests
from tests.bench.servers import SERVERS, Place, Server, busy_seconds, installed

BUSY = 0.3  # CPUs that others may use before the ratios are called doubtful


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `seconds` and `warmup` are for one run; `requests`: how many different ones there are.

    `rounds` are those of the table, `pairs` the runs beside their yardsticks of what is measured besides. With
    `--against`, `requests` are all that a server answers.
    """

    servers: list[str]
    connectors: list[int]
    connections: list[int]
    rounds: int
    pairs: int
    seconds: float
    warmup: float
    requests: int
    pipeline: int
    unix: bool
    pause: float


def measure(plan: Plan, say: Callable[[str], None]) -> Iterator[Run]:
    """Every run of the plan, as it is done."""
    load = build("load")
    done, total = 0, plan.rounds * len(plan.connectors) * len(plan.connections) * len(plan.servers)
    for connectors in plan.connectors:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policyd-bench-")))
            place = Place(folder, folder / "organizations.toml", plan.unix)
            say(f"{connectors:,} connectors: writing the configuration and the requests")
            with place.organizations.open("w", encoding="utf-8") as out:
                out.writelines(configuration(connectors))
            _write_requests(place, connectors, plan.requests)
            servers = []
            for name in plan.servers:
                say(f"{connectors:,} connectors: starting {name}")
                started = time.monotonic()
                servers.append(SERVERS[name](place))
                stack.callback(servers[-1].stop)
                if servers[-1].decides:
                    took, rss = time.monotonic() - started, servers[-1].usage()[1]
                    print(f"{name}: {connectors:,} connectors loaded in {took:.1f} s, {rss >> 20} MiB", file=sys.stderr)
            for number in range(plan.rounds):
                turn = number % len(servers)
                for connections in plan.connections:
                    for server in servers[turn:] + servers[:turn]:
                        done += 1
                        say(f"{done}/{total}: round {number + 1}, {connections} connections, {server.name}")
                        time.sleep(plan.pause)
                        yield _one_run(load, plan, folder, server, connectors, connections, number)


def _write_requests(place: Place, connectors: int, count: int) -> None:
    exchanges = list(requests(connectors, count))
    (place.folder / "requests").write_text("".join(exchange.text for exchange in exchanges), encoding="utf-8")
    (place.folder / "expected").write_text("".join(f"{exchange.action}\n" for exchange in exchanges))


def _one_run(
    load: Path, plan: Plan, folder: Path, server: Server, connectors: int, connections: int, number: int
) -> Run:
    if server.log is not None and server.log.exists():
        os.truncate(server.log, 0)
    command = [str(load), "-c", str(connections), "-s", str(plan.seconds), "-w", str(plan.warmup)]
    command += ["-p", str(plan.pipeline)]
    if server.decides:
        command += ["-e", str(folder / "expected")]
    cpu_before, busy_before = server.usage()[0], busy_seconds()
    done = subprocess.run(
        [*command, server.target, str(folder / "requests")], capture_output=True, text=True, check=False
    )
    (cpu_after, rss), busy_after = server.usage(), busy_seconds()
    if done.stderr:
        print(f"{server.name}: {done.stderr.strip()}", file=sys.stderr)
    if not done.stdout:
        raise RuntimeError(f"the load generator gave up: {done.stderr}")
    result, cpu = json.loads(done.stdout), cpu_after - cpu_before
    others = max(0.0, busy_after - busy_before - cpu - result["load_cpu_seconds"])
    return Run(server.name, connectors, connections, number, result, cpu, others, rss)


def _in_postfix(plan: Plan, quick: bool, say: Callable[[str], None]) -> list[mail.MailRow]:
    """The same servers asked by a real Postfix; nothing, with a word about it, where that cannot be."""
    if reason := mail.why_not():
        print(f"not measured inside Postfix: {reason}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="policyd-bench-") as name:
        place = Place(Path(name), Path(name, "organizations.toml"))
        place.organizations.write_text("".join(configuration(plan.connectors[-1])), "utf-8")
        return mail.measure_mail(place, 4 if quick else plan.pairs, mail.MESSAGES, say)


def _with_workers(
    plan: Plan, share: float, weight: int, say: Callable[[str], None]
) -> tuple[list[workers.WorkersRow], list[workers.LuckRow]]:
    """One worker and two, each with so much of a CPU; nothing, with a word about it, where that cannot be had."""
    if reason := workers.why_not():
        print(f"workers not measured: {reason}", file=sys.stderr)
        return [], []
    with tempfile.TemporaryDirectory(prefix="policyd-bench-") as name:
        place = Place(Path(name), Path(name, "organizations.toml"))
        place.organizations.write_text("".join(configuration(plan.connectors[-1])), "utf-8")
        _write_requests(place, plan.connectors[-1], plan.requests)
        numbers = [number for number in plan.connections if number > 1]
        return workers.measure_workers(place, numbers, plan.pairs, plan.seconds, share, weight, say)


def _against(plan: Plan, other: Path, say: Callable[[str], None]) -> list[AgainstRow]:
    """This checkout's policyd beside another's, one row for each number of connections."""
    different = -(-plan.requests // ROUNDS)
    with tempfile.TemporaryDirectory(prefix="policyd-bench-") as name:
        place = Place(Path(name), Path(name, "organizations.toml"), plan.unix)
        place.organizations.write_text("".join(configuration(plan.connectors[-1])), "utf-8")
        _write_requests(place, plan.connectors[-1], different)
        return [measure_against(place, other, number, different, plan.pairs, say) for number in plan.connections]


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    try:
        twisted = version("twisted")
    except PackageNotFoundError:
        twisted = ""
    return {
        "cpu": model or platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "twisted": twisted,
    }


def _numbers(text: str) -> list[int]:
    return [int(number.replace("_", "")) for number in text.split(",")]


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", default=",".join(installed()), help=f"of: {', '.join(SERVERS)} (%(default)s)")
    parser.add_argument("--connections", type=_numbers, help="default 1,10,100; with --against 10")
    parser.add_argument("--connectors", type=_numbers, default=[10, 10_000], help="default 10,10000")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one run, default %(default)s")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each run, default %(default)s")
    parser.add_argument(
        "--requests", type=int, help="different requests, default 50000; with --against of one run, default 100000"
    )
    parser.add_argument("--pipeline", type=int, default=1, help="requests outstanding on a connection (Postfix: 1)")
    parser.add_argument("--unix", action="store_true", help="unix sockets in place of TCP on 127.0.0.1")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each run, for a shared machine")
    parser.add_argument("--quick", action="store_true", help="a minute for a first look, as CI does: few short rounds")
    parser.add_argument("--postfix", action="store_true", help="also messages a second inside a real Postfix (root)")
    parser.add_argument(
        "--workers", action="store_true", help="also two workers against one, each with its share of a CPU"
    )
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="only the CPU seconds of this policyd beside that one's"
    )
    parser.add_argument("--share", type=float, default=0.25, help="of a CPU for each worker, default %(default)s")
    parser.add_argument("--pairs", type=int, default=20, help="of runs, for all but the table, default %(default)s")
    parser.add_argument("--alone", action="store_true", help="only what --postfix and --workers measure")
    parser.add_argument(
        "--weight", type=int, default=1, help="this benchmark's share beside the machine's other work (1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run and the summary")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a bar plot of the ratios")
    parsed = parser.parse_args(arguments)
    parsed.servers = parsed.servers.split(",")
    parsed.connections = parsed.connections or ([10] if parsed.against else [1, 10, 100])
    parsed.requests = parsed.requests or (100_000 if parsed.against else 50_000)
    if parsed.quick:
        parsed.connections, parsed.connectors, parsed.rounds = [1, 10], [1000], 3
        parsed.seconds, parsed.warmup, parsed.requests = 1.0, 0.2, 10_000
    if unknown := [name for name in parsed.servers if name not in SERVERS]:
        parser.error(f"unknown server {unknown[0]}: one of {', '.join(SERVERS)}")
    if parsed.pairs < 2 or not 0.05 <= parsed.share <= 1 or not 1 <= parsed.weight <= 100:
        parser.error("--pairs must be at least 2, --share from 0.05 to 1, --weight from 1 to 100")
    if parsed.against and not (parsed.against / "policyd/__main__.py").is_file():
        parser.error(f"--against: there is no policyd in {parsed.against}")
    return parsed


def _progress() -> Callable[[str], None]:
    """One line that is rewritten, on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Measure, print the table, write the files asked for."""
    options = vars(_arguments(arguments))
    json_file, svg_file = options.pop("json"), options.pop("svg")
    quick, alone, weight = options.pop("quick"), options.pop("alone"), options.pop("weight")
    postfix, with_workers, share = options.pop("postfix"), options.pop("workers"), options.pop("share")
    other = options.pop("against")
    plan, say = Plan(**options), _progress()
    runs: list[Run] = []
    in_postfix: list[mail.MailRow] = []
    of_workers: list[workers.WorkersRow] = []
    luck: list[workers.LuckRow] = []
    beside: list[AgainstRow] = []
    try:
        with ExitStack() as stack:
            if weight != 1:  # what is started from now on is in the group too, also Postfix
                stack.enter_context(Group("all", weight=weight)).take(os.getpid())
            if other:
                beside = _against(plan, other.resolve(), say)
            for run in () if alone or other else measure(plan, say):
                runs.append(run)
            if with_workers:
                of_workers, luck = _with_workers(plan, share, weight, say)
            if postfix:
                in_postfix = _in_postfix(plan, quick, say)
    except (RuntimeError, OSError) as problem:
        say("")
        print(f"tests.bench: {problem}", file=sys.stderr)
        return 2
    say("")
    rows, about = summary(runs), machine()
    caption = ", ".join(f"{name} {value}" for name, value in about.items())
    if rows:
        print(table(rows))
        caption_of_runs = f"load generator on the same machine; median of {plan.rounds} rounds of {plan.seconds} s"
        print(f"\n{caption}; {caption_of_runs}")
    if any(row.others_cpu > BUSY for row in rows):
        print("The machine had other work meanwhile (other CPU): CPU s/100k still compares, the ratios hardly.")
    for compared in beside:
        print(against_line(compared))
    if of_workers:
        print(f"\nOne worker and two, each with {share:g} of a CPU:\n{workers.workers_table(of_workers)}")
        print(workers.luck_table(luck))
    if in_postfix:
        print(f"\nInside Postfix, {mail.SESSIONS} SMTP sessions at a time:\n{mail.mail_table(in_postfix)}")
    if json_file:
        document = {"machine": about, "plan": asdict(plan), "share": share, "summary": list(map(asdict, rows))}
        document |= {"workers": list(map(asdict, of_workers)), "spread": list(map(asdict, luck))}
        document |= {"mail": list(map(asdict, in_postfix)), "runs": list(map(asdict, runs))}
        document |= {"against": list(map(asdict, beside))}
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    if svg_file:
        svg_file.write_text(svg(rows, caption), encoding="utf-8")
    wrong = any(row.errors or row.mismatches for row in rows) or any(row.faults for row in (*of_workers, *beside))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
