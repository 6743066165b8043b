"""Makes a table and plots of what `autoscale` wrote: benches/results/autoscaling.{md,png}.

    python3 benches/autoscaling/report.py [--results benches/results/autoscaling.json]
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
COLORS = {"ours": "#c0392b", "HPA on utilization": "#2980b9", "Knative-style": "#27ae60", "queue length": "#8e44ad",
          "oracle": "#2c3e50", "fixed": "#8e9aa6"}
MARKERS = {"ours": "o", "HPA on utilization": "s", "Knative-style": "^", "queue length": "D", "oracle": "*", "fixed": "X"}
SHOWN = ["oracle", "ours", "HPA on utilization", "Knative-style", "queue length"]


def row(cells):
    return "| " + " | ".join(cells) + " |"


def header(cells):
    return [row(cells), "|---" * len(cells) + "|"]


def families(cases):
    grouped = {}
    for case in cases:
        grouped.setdefault(case["family"], []).append(case)
    return grouped


def table(cases, oracle_hours):
    lines = header(["policy", "setting, a server", "texts in time", "of the model that fares worst", "minutes below 99 %",
                    "server hours", "of the oracle's", "reversals an hour"])
    for family, members in families(cases).items():
        for case in members:
            lines.append(row([family, case["setting"], f"{100 * case['attainment']:.3f} %", f"{100 * case['worst_model']:.3f} %",
                              f"{case['bad_minutes']:.1f}", f"{case['server_hours']:.1f}",
                              f"{case['server_hours'] / oracle_hours:.2f}", f"{case['reversals_per_hour']:.2f}"]))
    return lines


def middle(members):
    """The setting in the middle, to be shown over the day."""
    return members[len(members) // 2]


def plot_costs(axes, grouped):
    for family, members in grouped.items():
        members = sorted(members, key=lambda case: case["server_hours"])
        late = [max(1 - case["attainment"], 1e-6) for case in members]
        axes.plot([case["server_hours"] for case in members], late, color=COLORS[family], marker=MARKERS[family], label=family,
                  linewidth=1, markersize=9 if family == "oracle" else 6)
    axes.set_yscale("log")
    axes.set_xlabel("server hours a day")
    axes.set_ylabel("share of texts not in time")
    axes.set_title("what it costs to be in time: lower left is better", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def plot_day(axes, report, case):
    hours = [minute / 60 for minute in range(len(report["rates"]))]
    top = max(report["rates"])
    axes.fill_between(hours, [8 * rate / top for rate in report["rates"]], color="#d5d8dc", step="mid")
    times, sizes = zip(*[*case["sizes"], [report["hours"] * 3600, case["sizes"][-1][1]]])
    axes.step([time / 3600 for time in times], sizes, where="post", color=COLORS[case["family"]], linewidth=0.9)
    axes.set_ylim(0, 8.5)
    axes.set_yticks([2, 5, 8])
    axes.set_xlim(0, report["hours"])
    axes.set_title(f"{case['family']}, {case['setting']}", fontsize=9, loc="left", pad=2)
    axes.grid(alpha=0.3)


def plot(report, path):
    grouped = families(report["cases"])
    shown = [family for family in SHOWN if family in grouped]
    figure = pyplot.figure(figsize=(13, 6.5), constrained_layout=True)
    left, right = figure.subfigures(1, 2, width_ratios=[2, 3])
    plot_costs(left.subplots(), grouped)
    panels = right.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, family in zip(panels, shown):
        plot_day(axes, report, middle(grouped[family]))
    panels[-1].set_xlabel(f"hour of the first day; grey: requests, whose top is {max(report['rates']):,.0f} a second")
    right.supylabel("servers asked for", fontsize=10)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=ROOT / "benches/results/autoscaling.json")
    options = parser.parse_args()
    report = json.loads(options.results.read_text())
    folder = options.results.parent
    plot(report, folder / "autoscaling.png")
    oracle = middle(families(report["cases"])["oracle"])
    lines = [
        "# How many servers",
        "",
        f"Made by `make autoscale` (`autoscale --seeds {report['seeds']}`, then `benches/autoscaling/report.py`; about an hour on two "
        f"cores). All of it is deterministic; means over {report['seeds']} days.",
        "",
        f"A day of {report['requests'] / 1e6:.0f} million requests with 2.5 texts each on average, for the five models: its rate swings by "
        "55 % between night and noon, with slow noise of 5 % and sixteen bursts of up to one and a half times more, some rising "
        "within seconds. Every text goes through the server's own scheduler on a virtual clock. A server is two cores of this "
        "project's CPU engine, as measured (`benches/results/engines.md`): of the eight-GPU nodes of the platform's plan one alone "
        "would be idle with these models. Servers take 25 to 40 s to start, four are lost during the day with all they hold, a "
        "text goes to the less loaded of two servers drawn at random, and what a policy says is acted upon every 15 s, when it is "
        "15 s old. Between 2 and 8 servers. *In time*: within the model's p99 target.",
        "",
        "**ours**: `router::scaling::Autoscaler`, metered from the schedulers as in the server. **HPA on utilization** and **queue "
        "length**: the ratio of the horizontal pod autoscaler with its tolerance and five minutes of stabilisation. "
        "**Knative-style**: concurrency over 60 s, over 6 s in panic. **oracle**: knows the rate of the next 42 s and is obeyed at "
        "once. Each at several settings of what a server should be asked for, since what matters is what it costs to be in time:",
        "",
        "![costs and a day](autoscaling.png)",
        "",
        *table(report["cases"], oracle["server_hours"]),
        "",
        f"Of the oracle's: of {oracle['server_hours']:.1f} hours, at {oracle['setting']}. A reversal is a step up after a step down or "
        "the other way round.",
        "",
    ]
    (folder / "autoscaling.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
