"""One run, from prepared data to a saved bundle: what `striate train` does."""

import json
import os
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from striate import __version__, bundle
from striate.analysis.calibration import fit_temperature, softmax
from striate.analysis.profiler import profile
from striate.data.audit import KINDS
from striate.data.augment import Augment
from striate.data.material import Material
from striate.data.samples import Fault
from striate.data.split import save_split
from striate.device import pick_device
from striate.errors import DataError, RecipeError
from striate.files import replacing
from striate.folder import free, how_to_go_on, opened, unwritten
from striate.golden import golden_samples
from striate.kernels import level, reason
from striate.models import build, has_own_rule, initialise
from striate.recipe import Recipe
from striate.session import Keeper, Session, interruptible, short_budget
from striate.spec import Spec
from striate.summary import Answers, first_filters, write_summary
from striate.train import hogwild
from striate.train.choices import complete
from striate.train.compilation import check_compile, compiled, pays
from striate.train.evaluate import predict
from striate.train.log import Log, console
from striate.train.loop import State, diverged, steps
from striate.train.machine import autocast_type, check_workers, give_back_memory, set_threads
from striate.train.resume import restore, telling_what_is_kept, whole_or_none
from striate.trial import choose_size, time_answer

__all__ = ["check_recipe", "train"]

SAID = ("ambiguous", "not-held-out", "value-range", "note", "skipped")  # warnings said in full


def check_recipe(recipe: Recipe, spec: Spec | None = None) -> None:
    """Refuse names and options that no run could follow, before anything is written.

    Args:
        spec: what a sample is; without one, the network is asked for its published input.

    Raises:
        RecipeError: a network, an option of it, an augmentation or a device is unknown,
            threads or processes are too many, the samples too small for the network or texts
            that it cannot read, or it answers maps instead of classes.
    """
    if recipe.augment != "auto":
        Augment.parse(recipe.augment)
    check_workers(recipe.threads, recipe.processes)
    device = pick_device(recipe.device)
    if spec:
        check_compile(recipe, _compilable(recipe, device, spec))
    with torch.random.fork_rng(devices=[]):
        net = build(recipe.model, spec, **recipe.model_options)
    if spec:
        _refuse_words(net, recipe.model, spec)
        _refuse_maps(net, recipe.model, spec)
    autocast_type(recipe.precision, device, spec.values if spec else 0)


def _refuse_words(net: nn.Module, name: str, spec: Spec) -> None:
    """Refuse a network that would take the numbers of words for values."""
    if spec.kind == "text" and not any(isinstance(m, nn.Embedding) for m in net.modules()):
        raise RecipeError(
            f"network {name!r} reads values, and a text is numbers of words, of which 8 is not "
            "twice 4: take --model textcnn"
        )


def _refuse_maps(net: nn.Module, name: str, spec: Spec) -> None:
    """Refuse a network that does not give each sample one number a class."""
    try:
        with torch.no_grad():
            answer = net.eval()(torch.zeros(1, *spec.shape))
    except (RuntimeError, ValueError) as error:
        raise RecipeError(
            f"network {name!r} cannot answer samples of {spec.shape}: {error}"
        ) from error
    if answer.shape != (1, len(spec.classes)):
        raise RecipeError(
            f"network {name!r} answers {tuple(answer.shape[1:])} a sample; training on classes "
            f"wants one number for each of {len(spec.classes)}: take another --model"
        )


def _check_fit(recipe: Recipe, material: Material) -> None:
    """Check the recipe; name with a refusal what an array could be read as instead."""
    try:
        check_recipe(recipe, material.spec)
    except RecipeError as error:
        doubts = [f"{doubt.path}: {doubt.detail}" for doubt in material.samples.doubts]
        raise RecipeError("; ".join([str(error), *doubts])) from error


def train(
    data: str,
    material: Material,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    born: float | None = None,
) -> dict[str, Any]:
    """Train on `material` and write a run folder; return what `train --json` prints.

    Args:
        data: what the user named, for the record.
        material: from `data.material.gather`.
        recipe: how to train; zeros and "auto" are completed.
        folder: of the run; new, or with `resume` an existing one.
        resume: go on from the newest state in `folder`.
        quiet: say nothing.
        born: monotonic time at which the wall clock started; now without one.

    Raises:
        RecipeError: an option does not fit, the loss is not finite.
        DataError: the folder exists, cannot be written, another process trains in it, or its
            stored states are damaged.
        KeyboardInterrupt: somebody pressed Ctrl-C; what was learnt is stored and stderr says how
            to go on.
    """
    born = time.monotonic() if born is None else born
    stored = whole_or_none(folder / "state") if resume else None
    facts = stored[1]["facts"] if stored else {}
    if recipe.augment == "auto" and has_own_rule(recipe.model):
        recipe = recipe.model_copy(update={"augment": "none"})  # its cells are made of what it sees
    asked = recipe
    recipe = complete(
        asked, material.spec, material.cache.x, material.samples.labels, material.split.train
    )
    _check_fit(recipe, material)
    try:
        with opened(folder, resume), Log(folder, facts.get("history"), quiet) as log:
            threads = set_threads(recipe.threads or facts.get("threads", 0))
            device = pick_device(recipe.device)
            torch.manual_seed(recipe.seed)
            before = float(facts.get("wall", 0.0))
            run = Session(folder, recipe, material, log, born, before, device, nn.Identity(), None)
            run.facts = {"data": data, "threads": threads}
            _say_start(run, data)
            _build(run, bool(stored), asked)
            _describe(run, data, resume)
            trained = _learn(run, resume=stored is not None)
            return _finish(run, data, trained)
    except (OSError, SafetensorError) as error:
        raise DataError(unwritten(folder, error)) from error
    except KeyboardInterrupt:
        console().print(f"stopped; {how_to_go_on(folder)}", markup=False)
        raise


def _describe(run: Session, data: str, resume: bool) -> None:
    """Write what going on needs to know; recipe.toml comes last, as the sign that all is there."""
    if not resume:
        material = run.material
        save_split(run.folder / "split.json", material.split, material.samples, material.cache)
        named = os.path.abspath(data) if Path(data).exists() else data  # from any folder
        about = {"data": named, "spec": material.spec.model_dump(), "version": __version__}
        with replacing(run.folder / "run.json") as file:
            file.write(json.dumps(about, indent=1))
    with replacing(run.folder / "recipe.toml") as file:
        file.write(run.recipe.toml())  # a run that goes on may be longer


def _say_start(run: Session, data: str) -> None:
    split, spec = run.material.split, run.material.spec
    shape = " x ".join(str(v) for v in spec.shape)
    run.log.say(
        f"{data}: {len(split.train)} training, {len(split.validation)} validation, "
        f"{len(split.test)} test samples of {shape}, {len(spec.classes)} classes"
    )
    if run.device.type == "cpu" and reason():
        run.log.say(f"  {reason()}")
    for kind, count in Counter(fault.kind for fault in run.material.audit.faults).items():
        run.log.say(f"  {count} x {kind}: {KINDS[kind]}; `striate check {data}` names them")
    for warning in run.material.audit.warnings:
        if warning.kind in SAID:
            first = f" ({warning.path})" if warning.path else ""
            run.log.say(f"  {warning.kind}: {warning.detail}{first}")


def _build(run: Session, resumed: bool, asked: Recipe) -> None:
    """Build the network, its first layer from the data, its size from the time budget.

    Args:
        resumed: the recipe holds what was decided before.
        asked: recipe as the user gave it.
    """
    recipe = run.recipe
    named = "width" in recipe.model_options
    if recipe.model == "fastnet" and recipe.seconds and not (named or resumed):
        choose_size(run, asked)
    torch.manual_seed(recipe.seed)
    run.place(run.recipe.model_options)
    if recipe.processes > 1:
        run.recipe = hogwild.check(run.model, run.recipe)
        run.log.say(
            f"{recipe.processes} workers publish plain gradients: no momentum, no weight average"
        )
    if not resumed:
        initialise(run.model, _sample(run, 2000))
    run.each = time_answer(run)


def _sample(run: Session, most: int) -> torch.Tensor:
    """Some training samples, unchanged and normalised."""
    rows = np.random.default_rng(run.recipe.seed).permutation(run.material.split.train)[:most]
    return run.loader(rows).read(np.sort(rows))[0]


def _compiles(run: Session) -> bool:
    """Say whether the training step is to be compiled."""
    recipe, count, spec = run.recipe, len(run.material.split.train), run.material.spec
    able = _compilable(recipe, run.device, spec)
    return pays(recipe, able, count, lambda: profile(run.model, spec, fields=False))


def _compilable(recipe: Recipe, device: torch.device, spec: Spec) -> bool:
    half = autocast_type(recipe.precision, device, spec.values) is not None
    other = half or has_own_rule(recipe.model) or recipe.processes > 1
    return device.type == "cpu" and not (reason() or other)


def _learn(run: Session, resume: bool) -> State:
    """Train to the end of the budget; log, evaluate and store on the way."""
    recipe = run.recipe
    loader = run.loader(run.material.split.train, train=True)
    state = State.start(run.model, recipe, scale=run.autocast is torch.float16)
    if resume:
        facts = restore(run.folder / "state", state)
        loader.step = facts["position"]
        run.log.say(f"going on at update {state.index}, epoch {loader.epoch:.2f}")
        run.log.event("resume", index=state.index)
    loss = run.loss()
    if _compiles(run):
        run.log.say("compiling the training step: the first updates take some seconds more")
        loss = compiled(loss, run.model, recipe.batch, run.log.say)
    seconds = max(0.001, state.seconds + run.left()) if recipe.seconds else None
    keeper = Keeper(run, loader)
    kernels = level() if run.device.type == "cpu" and not reason() else "torch"
    versions = {"version": __version__, "torch": torch.__version__, "kernels": kernels}
    run.log.event("start", **versions, **run.facts)
    if not resume:
        keeper.store(state)
    give_back_memory()  # what reading and checking have left
    with interruptible() as asked, telling_what_is_kept(run.folder / "state"):
        course = hogwild.steps if recipe.processes > 1 else steps
        for step in course(run.model, loader, recipe, loss=loss, state=state, seconds=seconds):
            keeper.follow(step)
            if asked():
                break
        if not keeper.store(state):
            raise diverged(f"the weights are no longer finite after update {state.index}", state)
        if asked():
            raise KeyboardInterrupt
        keeper.close(state)
    return state


def _finish(run: Session, data: str, state: State) -> dict[str, Any]:
    """Calibrate, score, save the bundle, write the summary; return the JSON object."""
    recipe, spec = run.recipe, run.material.spec
    answers, temperature = _answer(run)
    scores = {name: part.scores(spec.classes, recipe.seed) for name, part in answers.items()}
    if recipe.test_time:
        scores |= _test_time(run, temperature)
    home = run.folder / "bundle"
    if home.exists():  # of this run before it was made longer
        home.rename(free(run.folder / "bundle-before"))
    bundle.save(
        home,
        run.model,
        recipe.model,
        spec,
        recipe,
        options=recipe.model_options,
        scores=scores,
        temperature=temperature,
        golden=_golden(run, answers, temperature),
    )
    trained = len(run.material.split.train) * _epoch_of(state, run)
    result = {
        "run": str(run.folder),
        "bundle": str(home),
        "seconds": round(run.before + time.monotonic() - run.born, 3),
        "epochs": round(_epoch_of(state, run), 3),
        "images_per_second": round(trained / max(state.seconds, 1e-9), 1),
        "device": str(run.device),
        "model": recipe.model,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "skipped": [asdict(fault) for fault in _left_out(run.material)],
        "scores": scores,
    }
    history, filters = run.log.history, first_filters(run.model)
    write_summary(run.folder, run.material, recipe, result, history, answers, filters, temperature)
    run.log.event("end", **result)
    if short := short_budget(run, state):
        run.log.say(short)
    return result


def _left_out(material: Material) -> list[Fault]:
    """What was not trained on as it lies there: files one by one, and kinds of them counted."""
    counted = [found for found in material.audit.warnings if found.kind in ("note", "skipped")]
    return [*material.cache.faults, *counted]


def _epoch_of(state: State, run: Session) -> float:
    updates = len(run.loader(run.material.split.train, train=True)) / run.recipe.accumulate
    return state.index / max(updates, 1e-9)


def _answer(run: Session) -> tuple[dict[str, Answers], float]:
    """Ask validation and test samples; the temperature comes from validation alone."""
    split, temperature, answers = run.material.split, 1.0, {}
    for name, index in (("validation", split.validation), ("test", split.test)):
        if not len(index):
            continue
        logits, labels = predict(run.model, run.loader(index))
        if name == "validation":
            temperature = fit_temperature(logits, labels)
        answers[name] = Answers(index, softmax(logits, temperature), labels)
    return answers, temperature


def _test_time(run: Session, temperature: float) -> dict[str, Any]:
    """Score again over mirrored and shifted views, beside the plain scores."""
    split = run.material.split
    name = "test" if len(split.test) else "validation"
    index = getattr(split, name)
    if not len(index):
        return {}
    logits, labels = predict(run.model, run.loader(index), **run.views())
    answers = Answers(index, softmax(logits, temperature), labels)
    return {f"{name}_views": answers.scores(run.material.spec.classes, run.recipe.seed)}


def _golden(
    run: Session, answers: dict[str, Answers], temperature: float
) -> dict[str, tuple[bytes, list[float]]]:
    """A few held-out samples with the answers of this network to them."""

    def answer(row: int) -> list[float]:
        logits, _ = predict(run.model, run.loader(np.array([row])))
        return [float(p) for p in softmax(logits, temperature)[0]]

    held = answers.get("test") or answers.get("validation")
    return golden_samples(run.material, held.index, answer) if held else {}
