"""What a finished run tells its reader: one object for programs, one table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mnist_bp.results import CachedDataset, Evaluation, Promotion, PublishedRun, RawDataset, TrainedRun
from mnist_bp.training.evaluation import seed_statistics

Summary = dict[str, Any]
"""JSON-ready; the keys of `summarize`."""


_HEADLINES: Final = {
    "promoted": "It is the champion now",
    "kept": "The champion stays",
    "refused": "No decision: the champion stays",
}


def summarize(
    raw: RawDataset,
    data: CachedDataset,
    trained: TrainedRun,
    evaluation: Evaluation,
    published: PublishedRun,
    promotion: Promotion,
) -> Summary:
    """Gather what `--json` prints."""
    return {
        "run_id": trained.run_id,
        "dataset": data.name,
        "notice": data.notice,
        "engine": trained.engine,
        "device": trained.device,
        "seed": evaluation.seed,
        "population": {"seeds": list(trained.seeds), "accuracy": seed_statistics(evaluation)},
        "certificate": trained.certificate,
        "steps": trained.steps,
        "accuracy": evaluation.final.accuracy,
        "validation_accuracy": evaluation.final.validation_accuracy,
        "lab_correct_of_1000": evaluation.final.lab_correct_of_1000,
        "loss": evaluation.final.loss,
        "train_seconds": trained.seconds,
        "steps_per_second": trained.steps_per_second,
        "cache": {"download": raw.cache, "preprocess": data.cache},
        "run_directory": trained.directory,
        "artifacts": published.artifacts,
        "manifest": published.manifest,
        "promotion": asdict(promotion),
        "checkpoints": [
            {
                "seed": score.seed,
                "step": score.step,
                "accuracy": score.accuracy,
                "lab_correct_of_1000": score.lab_correct_of_1000,
                "loss": score.loss,
                "sha256": point.file.sha256,
            }
            for point, score in zip(trained.checkpoints, evaluation.checkpoints, strict=True)
        ],
    }


def accuracy_rows(checkpoints: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Format accuracy per checkpoint, and per seed where there are several, as a table whose keys are the headings.

    Args:
        checkpoints: Each with at least `seed, step, accuracy, lab_correct_of_1000, loss`.
    """
    several = len({point["seed"] for point in checkpoints}) > 1
    return [
        ({"seed": str(point["seed"])} if several else {})
        | {
            "step": f"{point['step']:,}",
            "accuracy": f"{point['accuracy']:.4f}",
            "lab correct of 1,000": str(point["lab_correct_of_1000"]),
            "loss": f"{point['loss']:.4f}",
        }
        for point in checkpoints
    ]


def headline(summary: Summary) -> str:
    """Tell in a line how good it is and what was made; where there is little room, its first words have to do."""
    made = f"{summary['dataset']}, {summary['engine']} engine, seed {summary['seed']}"
    return f"{summary['accuracy']:.4f}, {summary['promotion']['outcome']}: {made}"


def markdown(summary: Summary) -> str:
    """Summarize a run for the Prefect UI."""
    notice = f"> **Not MNIST.** {summary['notice']}\n\n" if summary["notice"] else ""
    population = f"| population | {_population(summary)} |\n" if len(summary["population"]["seeds"]) > 1 else ""
    return (
        f"{notice}# {summary['dataset']}: accuracy {summary['accuracy']:.4f}\n\n"
        "| | |\n|---|---|\n"
        f"| run | `{summary['run_id']}` |\n"
        f"| engine | {summary['engine']} on {summary['device']} |\n"
        f"| seed | {summary['seed']} |\n"
        f"{population}"
        f"| steps | {summary['steps']:,} in {summary['train_seconds']:.2f} s "
        f"({summary['steps_per_second']:,.0f} steps/s) |\n"
        f"| lab correct of 1,000 | {summary['lab_correct_of_1000']} |\n"
        f"| loss | {summary['loss']:.4f} |\n"
        f"| report | `{summary['artifacts']}/report.html` |\n"
        f"| manifest | `{summary['manifest']}` |\n\n"
        f"{_promotion_markdown(summary['promotion'])}"
    )


def _promotion_markdown(promotion: Mapping[str, Any]) -> str:
    """Show the decision, and champion and challenger side by side where they were compared."""
    figures = promotion["figures"]
    told = f"## {_HEADLINES[promotion['outcome']]}\n\n{promotion['reason']}\n"
    if figures.get("champion_accuracy") is None:
        return told
    return (
        f"{told}\n"
        "| | champion | challenger |\n|---|---|---|\n"
        f"| run | `{promotion['champion_before']}` | `{promotion['run_id']}` |\n"
        f"| accuracy | {figures['champion_accuracy']:.4f} | {figures['challenger_accuracy']:.4f} |\n"
        f"| right where the other is wrong | {figures['champion_alone_right']:,} "
        f"| {figures['challenger_alone_right']:,} |\n\n"
        f"One-sided exact McNemar p = {figures['p_value']:.2g}.\n"
    )


def _population(summary: Summary) -> str:
    models, accuracy = len(summary["population"]["seeds"]), summary["population"]["accuracy"]
    return (
        f"{models:,} models: mean {accuracy['mean']:.4f}, median {accuracy['median']:.4f}, "
        f"standard deviation {accuracy['standard_deviation']:.4f}, {accuracy['minimum']:.4f} to "
        f"{accuracy['maximum']:.4f}, {accuracy['share_below_0.90']:.1%} below 0.90; "
        f"seed {summary['seed']} has the best validation accuracy, {summary['validation_accuracy']:.4f}"
    )


def print_summary(console: Console, summary: Summary) -> None:
    """Print a run for a person: accuracy per checkpoint, the figures, where everything is."""
    rows = accuracy_rows(summary["checkpoints"])
    table = Table(*rows[0], title=f"{summary['dataset']}, {summary['engine']} engine, seed {summary['seed']}")
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    facts = {
        "accuracy": f"{summary['accuracy']:.4f} on all test images",
        **({"population": _population(summary)} if len(summary["population"]["seeds"]) > 1 else {}),
        "training": f"{summary['steps']:,} steps in {summary['train_seconds']:.2f} s, "
        f"{summary['steps_per_second']:,.0f} steps/s on {summary['device']}",
        "cache": f"download {summary['cache']['download']}, preprocess {summary['cache']['preprocess']}",
        "run directory": summary["run_directory"],
        "published to": summary["artifacts"],
        "manifest": summary["manifest"],
        "champion": f"{summary['promotion']['outcome']}: {summary['promotion']['reason']}",
    }
    for name, value in facts.items():
        console.print(Text(f"{name:<15}{value}"), soft_wrap=True)  # a path stays whole, to be copied
    if summary["notice"]:
        console.print(Panel(Text(summary["notice"]), title="NOT MNIST", border_style="bold yellow"))
