"""The report at the end of a run: JSON for programs, tables in the terminal and in the Prefect UI for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mnist_bp.documents.champion import GateFigures, PromotionRecord
from mnist_bp.documents.manifest import Score
from mnist_bp.errors import printable
from mnist_bp.model.recipe import recipe_of
from mnist_bp.results import (
    CachedDataset,
    CacheOutcome,
    CheckpointScore,
    Evaluation,
    PublishedRun,
    RawDataset,
    SeedStatistics,
    TrainedRun,
)
from mnist_bp.storage.schema import FrozenModel, Sha256
from mnist_bp.training.evaluation import VALIDATION_NOTE, seed_statistics
from mnist_bp.training.resume import RunRequest

_HEADLINES: Final = {
    "promoted": "It is the champion now",
    "kept": "The champion stays",
    "refused": "No decision: the champion stays",
}


CHOSEN_BY_TEST_IMAGES: Final = (
    "Every challenge uses the same test images, and a champion is chosen by its accuracy on them: expect it to be "
    "a little less accurate on new images."
)


class SummaryCheckpoint(Score):
    """A checkpoint of the run's own model, with the digest of its file."""

    sha256: Sha256


class CacheUse(FrozenModel):
    """Whether each cache had what the run needed."""

    download: CacheOutcome
    preprocess: CacheOutcome


class RunSummary(FrozenModel):
    """The result of a run, as `--json` prints it.

    Args:
        recipe: See `mnist_bp.model.recipe.Recipe.label`.
        accuracy, validation_accuracy, lab_correct_of_1000, loss: Of the run's own model after the last step.
        run_directory: On this machine.
        artifacts, manifest: URIs.
        published_bytes: Size of all published files.
    """

    run_id: str
    dataset: str
    notice: str | None
    engine: str
    device: str
    seed: int
    seeds: tuple[int, ...]
    seed_statistics: SeedStatistics
    certificate: dict[str, JsonValue]
    recipe: str
    steps: int
    accuracy: float
    validation_accuracy: float | None
    lab_correct_of_1000: int
    loss: float
    train_seconds: float
    steps_per_second: float
    cache: CacheUse
    run_directory: str
    artifacts: str
    manifest: str
    published_bytes: int
    promotion: PromotionRecord
    checkpoints: tuple[SummaryCheckpoint, ...]


class FinishedRun(FrozenModel):
    """The result where an earlier run has done the work, as `--json` prints it.

    Args:
        finished: Why there was nothing to do.
        manifest: URI of its manifest.
    """

    run_id: str
    finished: str
    manifest: str | None = None


def published_already(run: RunRequest) -> FinishedRun:
    """Report a resumed run that has nothing left to do."""
    return FinishedRun(run_id=run.run_id, finished="published already", manifest=run.manifest)


def summarize(
    raw: RawDataset,
    data: CachedDataset,
    trained: TrainedRun,
    evaluation: Evaluation,
    published: PublishedRun,
    promotion: PromotionRecord,
) -> RunSummary:
    """Gather what a run reports from the results of its stages."""
    final = evaluation.final
    return RunSummary(
        run_id=trained.run_id,
        dataset=data.name,
        notice=data.notice,
        engine=trained.engine,
        device=trained.device,
        seed=evaluation.seed,
        seeds=trained.seeds,
        seed_statistics=seed_statistics(evaluation),
        certificate=trained.certificate,
        recipe=recipe_of(trained.config).label,
        steps=trained.steps,
        accuracy=final.accuracy,
        validation_accuracy=final.validation_accuracy,
        lab_correct_of_1000=final.lab_correct_of_1000,
        loss=final.loss,
        train_seconds=trained.seconds,
        steps_per_second=trained.steps_per_second,
        cache=CacheUse(download=raw.cache, preprocess=data.cache),
        run_directory=trained.directory,
        artifacts=published.artifacts,
        manifest=published.manifest,
        published_bytes=published.size,
        promotion=promotion,
        checkpoints=tuple(
            SummaryCheckpoint(
                seed=score.seed,
                step=score.step,
                accuracy=score.accuracy,
                lab_correct_of_1000=score.lab_correct_of_1000,
                loss=score.loss,
                sha256=point.file.sha256,
            )
            for point, score in zip(trained.checkpoints, evaluation.checkpoints, strict=True)
        ),
    )


def accuracy_rows(scores: Sequence[Score | CheckpointScore]) -> list[dict[str, str]]:
    """Format accuracy per checkpoint, and per seed if there are several, as a table whose keys are the headings."""
    several = len({score.seed for score in scores}) > 1
    return [
        ({"seed": str(score.seed)} if several else {})
        | {
            "step": f"{score.step:,}",
            "accuracy": f"{score.accuracy:.4f}",
            "lab correct of 1,000": str(score.lab_correct_of_1000),
            "loss": f"{score.loss:.4f}",
        }
        for score in scores
    ]


def decision(promotion: PromotionRecord) -> str:
    """Describe a promotion decision in one short line; the record and `mnist-bp show` have the whole reason."""
    figures, outcome = promotion.figures, promotion.outcome
    if (
        outcome == "refused"
        or figures is None
        or figures.champion_accuracy is None
        or figures.p_value is None
        or figures.gain is None
    ):
        return f"{outcome}: {promotion.reason}"
    compared = f"accuracy {figures.challenger_accuracy:.4f}, champion's {figures.champion_accuracy:.4f}"
    lowest = min(share for share in figures.challenger_per_class if share is not None)
    conditions = (
        (figures.gain >= figures.minimum_gain, f"gain {figures.gain:+.4f}, required at least {figures.minimum_gain:g}"),
        (
            figures.p_value <= figures.largest_p,
            f"p = {figures.p_value:.2g}, required at most {figures.largest_p:.3g}{_numbered(figures)}",
        ),
        (lowest >= figures.class_floor, f"worst class {lowest:.4f}, required at least {figures.class_floor:g}"),
    )
    return f"{outcome}: {compared}{''.join(f'; {text}' for met, text in conditions if not met)}"


def _numbered(figures: GateFigures) -> str:
    return f" at challenge {figures.challenge}" if figures.challenge else ""


def headline(summary: RunSummary) -> str:
    """Describe in one line how good a run is and how it was made, the most important words first."""
    made = f"{summary.dataset}, {summary.engine} engine, seed {summary.seed}"
    return f"{summary.accuracy:.4f}, {summary.promotion.outcome}: {made}"


def markdown(summary: RunSummary) -> str:
    """Summarize a run for the Prefect UI."""
    notice = f"> **Not MNIST.** {summary.notice}\n\n" if summary.notice else ""
    seeds = f"| seeds | {_seeds(summary)} |\n" if len(summary.seeds) > 1 else ""
    return (
        f"{notice}# {summary.dataset}: accuracy {summary.accuracy:.4f}\n\n"
        "| | |\n|---|---|\n"
        f"| run | `{summary.run_id}` |\n"
        f"| engine | {summary.engine} on {summary.device} |\n"
        f"| seed | {summary.seed} |\n"
        f"{seeds}"
        f"| recipe | {summary.recipe} |\n"
        f"| steps | {summary.steps:,} in {summary.train_seconds:.2f} s ({summary.steps_per_second:,.0f} steps/s) |\n"
        f"| lab correct of 1,000 | {summary.lab_correct_of_1000} |\n"
        f"| loss | {summary.loss:.4f} |\n"
        f"| report | `{summary.artifacts}/report.html` |\n"
        f"| manifest | `{summary.manifest}` |\n\n"
        f"{promotion_markdown(summary.promotion)}"
    )


def promotion_markdown(promotion: PromotionRecord) -> str:
    """Show the decision, and champion and challenger side by side if they were compared."""
    figures = promotion.figures
    decision = f"## {_HEADLINES[promotion.outcome]}\n\n{promotion.reason}\n"
    if figures is None or figures.champion_accuracy is None:
        return decision
    return (
        f"{decision}\n"
        "| | champion | challenger |\n|---|---|---|\n"
        f"| run | `{promotion.champion_before}` | `{promotion.run_id}` |\n"
        f"| accuracy | {figures.champion_accuracy:.4f} | {figures.challenger_accuracy:.4f} |\n"
        f"| correct only for this model | {figures.champion_alone_right:,} "
        f"| {figures.challenger_alone_right:,} |\n\n"
        f"One-sided exact McNemar p = {figures.p_value:.2g}, required at most {figures.largest_p:.3g}"
        f"{_numbered(figures)}.\n\n{CHOSEN_BY_TEST_IMAGES}\n"
    )


def _seeds(summary: RunSummary) -> str:
    accuracy = summary.seed_statistics
    return (
        f"{len(summary.seeds):,} models: mean {accuracy.mean:.4f}, median {accuracy.median:.4f}, "
        f"standard deviation {accuracy.standard_deviation:.4f}, {accuracy.minimum:.4f} to {accuracy.maximum:.4f}, "
        f"{accuracy.share_below_90_percent:.1%} below 0.90; "
        f"seed {summary.seed} has the best validation accuracy, {summary.validation_accuracy:.4f}, "
        f"{VALIDATION_NOTE}"
    )


def print_summary(console: Console, summary: RunSummary) -> None:
    """Print a run for a person: accuracy per checkpoint, the figures, where everything is."""
    rows = accuracy_rows(summary.checkpoints)
    table = Table(
        *rows[0], title=Text(f"{summary.dataset}, {summary.engine} engine, seed {summary.seed}", style="table.title")
    )
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    facts = {
        "accuracy": f"{summary.accuracy:.4f} on all test images",
        **({"seeds": _seeds(summary)} if len(summary.seeds) > 1 else {}),
        "recipe": summary.recipe,
        "training": f"{summary.steps:,} steps in {summary.train_seconds:.2f} s, "
        f"{summary.steps_per_second:,.0f} steps/s on {summary.device}",
        "cache": f"download {summary.cache.download}, preprocess {summary.cache.preprocess}",
        "run directory": summary.run_directory,
        "published to": summary.artifacts,
        "manifest": summary.manifest,
        "champion": decision(summary.promotion),
    }
    for name, value in facts.items():
        console.print(
            Text(printable(f"{name:<15}{value}")), soft_wrap=True
        )  # a path is not wrapped, so that it can be copied
    if summary.notice:
        console.print(Panel(Text(printable(summary.notice)), title="NOT MNIST", border_style="bold yellow"))
