"""The result of a run: JSON for programs, sentences for people, and Markdown for the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import JsonValue

from mnist_bp.documents.champion import GateFigures, PromotionRecord
from mnist_bp.documents.manifest import Score
from mnist_bp.errors import counted
from mnist_bp.layout import REPORT
from mnist_bp.model.recipe import recipe_of
from mnist_bp.results.dataset import MNIST_SHAPE, CachedDataset, CacheOutcome, RawDataset
from mnist_bp.results.evaluation import CheckpointScore, Evaluation, SeedStatistics
from mnist_bp.results.publication import PublishedRun
from mnist_bp.results.training import TrainedRun
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
        class_names: In the order of the labels.
        recipe: See `mnist_bp.model.recipe.Recipe.label`.
        accuracy, validation_accuracy, lab_correct_of_1000, loss: Of the run's own model after the last step.
        models: Number of models that the run's own is the best of.
        sweep: See `RunConfig.sweep`.
        settings: The settings that were swept, as the run's own model has them.
        run_directory: On this machine.
        artifacts, manifest, report: URIs; that of a local report begins with file://, so that a browser opens it.
        report_url: Address of the report at the store, or None if the store has none for a browser.
        published_bytes: Size of all published files.
    """

    run_id: str
    dataset: str
    notice: str | None
    engine: str
    device: str
    seed: int
    seeds: tuple[int, ...]
    models: int
    sweep: str | None
    settings: dict[str, JsonValue]
    seed_statistics: SeedStatistics
    certificate: dict[str, JsonValue]
    class_names: tuple[str, ...] = MNIST_SHAPE.class_names
    recipe: str
    steps: int
    accuracy: float
    validation_accuracy: float | None
    lab_correct_of_1000: int | None
    loss: float
    train_seconds: float
    steps_per_second: float
    cache: CacheUse
    run_directory: str
    artifacts: str
    manifest: str
    report: str
    report_url: str | None
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


def report_uri(manifest: str) -> str:
    """Return the address of the report next to a manifest.

    Args:
        manifest: Its URI, as a store has it: a path or s3://...
    """
    report = f"{manifest.rpartition('/')[0]}/{REPORT}"
    return report if "://" in report else Path(report).as_uri()


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
        models=trained.models,
        sweep=trained.config.get("sweep"),
        settings=_own_settings(evaluation),
        seed_statistics=seed_statistics(evaluation),
        certificate=trained.certificate,
        class_names=data.shape.class_names,
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
        report=report_uri(published.manifest),
        report_url=published.report_url,
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


def _own_settings(evaluation: Evaluation) -> dict[str, JsonValue]:
    models = evaluation.models
    return {} if models is None else dict(models.settings[models.combination[models.best]])


def accuracy_rows(scores: Sequence[Score | CheckpointScore]) -> list[dict[str, str]]:
    """Format accuracy per checkpoint, and per seed if there are several, as a table whose keys are the headings."""
    several = len({score.seed for score in scores}) > 1
    return [
        ({"seed": str(score.seed)} if several else {})
        | {
            "step": f"{score.step:,}",
            "accuracy": f"{score.accuracy:.4f}",
            **({} if score.lab_correct_of_1000 is None else {"lab correct of 1,000": str(score.lab_correct_of_1000)}),
            "loss": f"{score.loss:.4f}",
        }
        for score in scores
    ]


class UnmetCondition(NamedTuple):
    """A condition of the gate that a run does not meet: its name, and in full and as the end of a short sentence."""

    name: str
    figures: str
    short: str


def unmet_conditions(figures: GateFigures) -> list[UnmetCondition]:
    """List the conditions that a run does not meet, the most important first; none without a champion before it."""
    champion, p, gain = figures.champion_accuracy, figures.p_value, figures.gain
    if champion is None or p is None or gain is None:
        return []
    lowest = min(share for share in figures.challenger_per_class if share is not None)
    better = f"better than the champion, which has {champion:.4f}"
    conditions = (
        (
            gain >= figures.minimum_gain,
            "gain",
            f"gain {gain:+.4f}, required at least {figures.minimum_gain:g}",
            f"not {better}" if gain <= 0 else f"not enough {better}",
        ),
        (
            p <= figures.largest_p,
            "p",
            f"p = {p:.2g}, required at most {figures.largest_p:.3g}{_numbered(figures)}",
            f"not {better}" if gain <= 0 else f"not significantly {better}",
        ),
        (
            lowest >= figures.class_floor,
            "class",
            f"worst class {lowest:.4f}, required at least {figures.class_floor:g}",
            f"only {lowest:.4f} of its worst class is right",
        ),
    )
    return [UnmetCondition(*texts) for met, *texts in conditions if not met]


def decision(promotion: PromotionRecord) -> str:
    """Describe a promotion decision in one line with its figures; the record has the whole reason."""
    figures, outcome = promotion.figures, promotion.outcome
    if outcome == "refused" or figures is None or figures.champion_accuracy is None:
        return f"{outcome}: {promotion.reason}"
    compared = f"accuracy {figures.challenger_accuracy:.4f}, champion's {figures.champion_accuracy:.4f}"
    return "; ".join([f"{outcome}: {compared}", *(unmet.figures for unmet in unmet_conditions(figures))])


def short_decision(promotion: PromotionRecord) -> str:
    """Describe a promotion decision in one short sentence; `mnist-bp show` and the log line have the figures."""
    figures, outcome = promotion.figures, promotion.outcome
    if promotion.error == "ConfigError":
        return (
            f"refused: the champion of {promotion.dataset} has images of another size, or other classes; name the "
            "directory of your images differently, or publish under another --artifacts"
        )
    if promotion.error is not None:  # nothing is recorded that mnist-bp show could state
        return (
            f"refused: the champion of {promotion.dataset} cannot be read; repair it (see mnist-bp verify), then "
            f"decide with --resume {promotion.run_id}"
        )
    if outcome == "refused":
        return f"refused: mnist-bp show {promotion.run_id} states why"
    if figures is None:
        return f"{outcome}: {promotion.reason}"
    if figures.champion_accuracy is None:
        return f"{outcome}: the first champion of {promotion.dataset}"
    if outcome == "promoted":
        return f"promoted: better than the champion before it, which has {figures.champion_accuracy:.4f}"
    return f"kept: {next((unmet.short for unmet in unmet_conditions(figures)), promotion.reason)}"


def _numbered(figures: GateFigures) -> str:
    return f" at challenge {figures.challenge}" if figures.challenge else ""


def headline(summary: RunSummary) -> str:
    """Describe in one line how good a run is and how it was made, the most important words first."""
    made = f"{summary.dataset}, {summary.engine} engine, seed {summary.seed}"
    return f"{summary.accuracy:.4f}, {summary.promotion.outcome}: {made}"


def markdown(summary: RunSummary) -> str:
    """Summarize a run for the Prefect UI. Each fact is stated once; the report is linked where it has an address."""
    notice = f"> **Not MNIST.** {summary.notice}\n\n" if summary.notice else ""
    sweep = f"| sweep | {sweep_text(summary)} |\n" if summary.sweep else ""
    seeds = f"| {'models' if sweep else 'seeds'} | {seeds_text(summary)} |\n" if summary.models > 1 else ""
    report = f"{summary.artifacts}/{REPORT}"
    counted = summary.lab_correct_of_1000
    lab = "" if counted is None else f"| lab correct of 1,000 | {counted} |\n"
    return (
        f"{notice}# {summary.dataset}: accuracy {summary.accuracy:.4f}\n\n"
        "| | |\n|---|---|\n"
        f"| run | `{summary.run_id}` |\n"
        f"| report | {f'[{REPORT}]({summary.report_url})' if summary.report_url else f'`{report}`'} |\n"
        f"| engine | {summary.engine} on {summary.device} |\n"
        f"| seed | {summary.seed} |\n"
        f"{sweep}{seeds}"
        f"| recipe | {summary.recipe} |\n"
        f"| steps | {summary.steps:,} in {summary.train_seconds:.2f} s ({summary.steps_per_second:,.0f} steps/s) |\n"
        f"{lab}"
        f"| loss | {summary.loss:.4f} |\n\n"
        f"{promotion_markdown(summary.promotion)}"
    )


def promotion_markdown(promotion: PromotionRecord) -> str:
    """Show the decision: the comparison with the champion before, or the reason if there was none."""
    figures, heading = promotion.figures, f"## {_HEADLINES[promotion.outcome]}\n\n"
    if figures is None or figures.champion_accuracy is None or promotion.outcome == "refused":
        return f"{heading}{promotion.reason}\n"
    unmet = "".join(f" {each.figures.capitalize()}." for each in unmet_conditions(figures) if each.name != "p")
    return (
        f"{heading}The champion before, `{promotion.champion_before}`, has {figures.champion_accuracy:.4f}. "
        f"It alone is right on {figures.champion_alone_right:,} test images, "
        f"this run alone on {figures.challenger_alone_right:,}. "
        f"One-sided exact McNemar p = {figures.p_value:.2g}, required at most {figures.largest_p:.3g}"
        f"{_numbered(figures)}.{unmet}\n\n{CHOSEN_BY_TEST_IMAGES}\n"
    )


def sweep_text(summary: RunSummary) -> str:
    """Describe a sweep, and the settings of the run's own model, in one line."""
    own = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.settings.items())
    return f"{summary.sweep}; the best model has {own}"


def seeds_text(summary: RunSummary) -> str:
    """Describe the models of all seeds in one line."""
    accuracy = summary.seed_statistics
    return (
        f"{counted(summary.models, 'model')}: mean {accuracy.mean:.4f}, median {accuracy.median:.4f}, "
        f"standard deviation {accuracy.standard_deviation:.4f}, {accuracy.minimum:.4f} to {accuracy.maximum:.4f}, "
        f"{accuracy.share_below_90_percent:.1%} below 0.90; "
        f"seed {summary.seed} has the best validation accuracy, {summary.validation_accuracy:.4f}, "
        f"{VALIDATION_NOTE}"
    )
