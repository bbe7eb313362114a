"""What nirvana-mri report does, step by step: reconstruct, gather, write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nirvana_mri.cli.shell import progress, say, warn, write_json
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from nirvana_mri.findings.finding import Findings
    from nirvana_mri.recon.batch import Recipe
    from nirvana_mri.report.inspect import Inspection
    from nirvana_mri.report.scored import Scored
    from nirvana_mri.scan import Scan
    from nirvana_mri.volume import Volume

PAGES, FACTS = (".html", ".htm"), (".json",)


def check_outputs(scan: Path, out: Path, json: Path | None, reference: Path | None, keep_identifiers: bool) -> None:
    """UsageError, before any work, for what could not be written, or would replace the scan."""
    from nirvana_mri.atomic import check_target, same_file
    from nirvana_mri.report.formats import check_report, report_suffix
    from nirvana_mri.report.formats.extras import NEEDS

    if report_suffix(out):
        check_report(out, reference, keep_identifiers)
    elif out.suffix.lower() not in PAGES + FACTS:
        raise UsageError(f"{out}: cannot be a report; name it .html, .json{''.join(f', {each}' for each in NEEDS)}")
    elif reference is not None or keep_identifiers:
        raise UsageError(f"{out}: pages and facts name nobody; leave --reference-dicom and --keep-identifiers out")
    outputs = [out, *([json] if json and json != Path("-") else [])]
    for written in outputs:
        check_target(written)
        if same_file(scan, written):
            raise UsageError(f"{written} is the input; name another file for the report")
    if len(outputs) > 1 and same_file(*outputs):
        raise UsageError(f"{out} is named twice; name a file for each output")


def reconstructed(
    source: Scan, recipe: Recipe, beside: tuple[str, ...], model: str, target: Path | None
) -> tuple[Scored, Inspection]:
    """The reconstruction that is reported and others beside it, scored; and the scan looked at."""
    from dataclasses import replace

    from nirvana_mri.report.inspect import inspect
    from nirvana_mri.report.scored import score_all

    volumes: list[Volume] = []
    plain: dict[str, Any] = {"model": model, "adapt": 0, "strength": 1.0, "error_bars": None}
    with progress(recipe.method) as bar:
        for name in dict.fromkeys([recipe.method, *beside]):
            bar.label(name)
            one = recipe if name == recipe.method else replace(recipe, method=name, **plain)
            volumes.append(one.apply(source, bar))
    return score_all(source, volumes, target), inspect(source)


def made_before(path: Path) -> Scored:
    """A reconstruction from its file, without a scan to score it against."""
    from nirvana_mri.io.writers.load_h5 import load_h5
    from nirvana_mri.report.scored import Scored

    note = "no scan at hand: this tells what the reconstruction says of itself"
    return Scored((load_h5(path),), (None,), None, (note,))


def refuse_settings(path: Path, recipe: Recipe, target: Path | None) -> None:
    """UsageError for options that would reconstruct what is a reconstruction already."""
    from nirvana_mri.recon.batch import Recipe

    plain = Recipe(trust=True, device=recipe.device)
    given = [name for name in plain.__dataclass_fields__ if getattr(recipe, name) != getattr(plain, name)]
    given += ["target"] if target else []
    if given:
        raise UsageError(
            f"{path} is a reconstruction; {', '.join(given)} would make another: leave it out, or give the scan"
        )


def drafted(source: Scan, recipe: Recipe, model: str | Path) -> Findings:
    """What a model that was taught findings says of the scan, sampled as the reconstruction is."""
    from nirvana_mri.findings.draft import draft_findings
    from nirvana_mri.recon.batch import pick_slices

    with progress("draft findings") as bar:
        return draft_findings(
            source,
            model,
            recipe.accelerate,
            recipe.mask,
            recipe.center_fraction,
            recipe.seed,
            slices=pick_slices(recipe.slices, len(source.kspace), source.name),
            device=recipe.device,
            progress=bar,
        )


def gather(
    scored: Scored, found: Inspection | None, scan: Path, commands: dict[str, str], draft: Findings | None
) -> dict[str, Any]:
    """The facts that every format shows; warnings are said on the way."""
    from nirvana_mri.report.technical import make_facts

    warn(scored.volumes[0].warnings, scan.name)
    facts = make_facts(found, scored, file=scan.name, commands=commands)
    if draft is None:
        return facts
    warn(draft.warnings, "draft findings")
    told = draft.as_dict()
    return facts | {key: told.pop(key) for key in ("findings", "watermark", "text")} | {"draft": told}


def write(
    facts: dict[str, Any],
    scored: Scored,
    found: Inspection | None,
    draft: Findings | None,
    out: Path,
    json: Path | None,
    reference: Path | None,
    keep_identifiers: bool,
) -> None:
    """The report in the format of its suffix, and its facts."""
    from nirvana_mri.io.writers.derivation import trust_words
    from nirvana_mri.report.formats import report_suffix, write_report
    from nirvana_mri.report.html import write_page
    from nirvana_mri.report.page import page_of, pictures_of

    if report_suffix(out):
        pictures = pictures_of(scored) if out.suffix.lower() == ".pdf" else {}
        write_report(facts, out, pictures=pictures, reference=reference, keep_identifiers=keep_identifiers)
    elif out.suffix.lower() in FACTS:
        write_json(facts, out)
    else:
        write_page(page_of(scored, facts, found, draft), out)
    if json is not None:
        write_json(facts, json)
    if json != Path("-"):
        main = scored.volumes[0]
        methods = ", ".join(str(volume.provenance["method"]) for volume in scored.volumes)
        say(f"wrote {out}: {methods}; {main.provenance['notice']}")
        if words := trust_words(main):
            say(f"trust: {words}")
