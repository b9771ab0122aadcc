"""What a finished run prints on stdout: its figures, and last the decision on it and its report."""

from __future__ import annotations

from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table
from mnist_bp.summary import FinishedRun, RunSummary, accuracy_rows, report_uri, seeds_text, short_decision, sweep_text


def print_result(result: RunSummary | FinishedRun) -> None:
    """Print a run for a person; the last line is the address of its report."""
    if isinstance(result, RunSummary):
        _print_summary(result)
    if result.manifest is not None:
        _print_facts({"report": _report(result.run_id, report_uri(result.manifest))})


def _print_summary(summary: RunSummary) -> None:
    rows = accuracy_rows(summary.checkpoints)
    print_table(rows[0], [row.values() for row in rows], right=rows[0])
    say()
    facts = {
        "run": f"{summary.run_id}: {summary.dataset}, {summary.engine} engine, seed {summary.seed}",
        **({"NOT MNIST": summary.notice} if summary.notice else {}),
        **({"sweep": sweep_text(summary)} if summary.sweep else {}),
        **({"models" if summary.sweep else "seeds": seeds_text(summary)} if summary.models > 1 else {}),
        "recipe": summary.recipe,
        "training": f"{summary.steps:,} steps in {summary.train_seconds:.2f} s, "
        f"{summary.steps_per_second:,.0f} steps/s on {summary.device}",
        "cache": f"download {summary.cache.download}, preprocess {summary.cache.preprocess}",
        "run directory": summary.run_directory,
        "published to": summary.artifacts,
        "accuracy": f"{summary.accuracy:.4f} on all test images",
        "promotion": short_decision(summary.promotion),
    }
    _print_facts(facts)


def _print_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        say(f"{name:<15}{value}")  # a line is not wrapped, so that a path in it can be copied


def _report(run_id: str, uri: str) -> str:
    return uri if uri.startswith("file:") else f"{uri} (mnist-bp open {run_id} downloads and opens it)"
