"""`gsoc-kd VERB`: the package's verbs as commands.

Flags, defaults and help are read from the functions themselves (signature, docstring, fields of the config),
so that a command and its function cannot drift apart. What is an object in Python (a teacher, pairs, real
images) is a word here, a name or a path, and goes through the same loader that a notebook calls.
"""

import contextlib
import difflib
import functools
import importlib
import inspect
import io
import re
import shlex
import sys
from dataclasses import dataclass, field
from typing import Annotated, Optional, get_type_hints

from .core.files import InputError

VERBS = {  # verb: (module, function, what --help says); a module is imported when its verb is used
    "demo": ("demo", "demo", "the whole way on embedded networks: pairs, distillation, scores, pictures"),
    "pairs": ("pairs.make", "make_pairs", "ask a teacher for pictures; keep noise, label and picture"),
    "distill": ("training.distill", "distill", "train a small student to draw the pictures of those pairs"),
    "evaluate": ("evaluation.evaluate", "evaluate", "score a generator against real images"),
    "export": ("deployment.export", "export", "write a student as an OpenVINO or ONNX file"),
    "pretrain": ("training.gan", "pretrain", "train a teacher from real images, if you have none"),
    "convert": ("teachers.official", "convert", "official StyleGAN2-ADA file to a folder of ours, without running it"),
    "train-judge": ("evaluation.classifier", "train_judge", "train the classifier that scores pictures offline"),
    "reference": ("evaluation.reference", "compute_reference", "measure the real images that scores compare with"),
    "embed": ("embed", "embed", "put the generator of a run into the package, scored"),
    "results": ("embed", "results", "measure the embedded networks anew and write the pages' table"),
    "calibrate": ("deployment.calibrate", "calibrate", "measure what INT8 costs the judge, by what calibrated it"),
}
CONFIGS = {  # verb: module and class of its parameter `config`
    "demo": ("training.distill", "DistillConfig"),
    "distill": ("training.distill", "DistillConfig"),
    "pretrain": ("training.gan", "PretrainConfig"),
}


@dataclass(frozen=True)
class Word:
    """A parameter that holds an object in Python and is a word on the command line."""

    shown: str  # what stands for the word in --help
    loader: str  # "module.function" that turns the word into the object
    also: tuple = ()  # the loader's own parameters that become flags too
    fixed: dict = field(default_factory=dict)  # arguments of the loader that are given here
    default: object = inspect.Parameter.empty  # where the function has none
    help: str | None = None  # where the function's docstring speaks of the object


IMAGES = "cifar10|ZIP|FOLDER"
WORDS = {
    "teacher": Word(
        "embedded|FOLDER|FILE",
        "teachers.load.load_teacher",
        also=("psi", "device", "half"),
        help="embedded; the folder of a network or of a run; or an official file, cifar10.pkl.",
    ),
    "generator": Word(
        "student|teacher|FOLDER",
        "cli.load_generator",
        help="student or teacher: the embedded one; or the folder of a network or of a run.",
    ),
    "pairs": Word("FOLDER", "pairs.folder.load_pairs", help="folder of pairs, as `gsoc-kd pairs` makes it."),
    "real": Word(IMAGES, "data.images.load_images", also=("size",)),
    "train": Word(IMAGES, "data.images.load_images", default="cifar10", help="real training images."),
    "test": Word(
        IMAGES,
        "data.images.load_images",
        fixed={"split": "test"},
        default="cifar10",
        help="other real images (of CIFAR-10 its test split): their scores are the floor.",
    ),
    "judge": Word("FOLDER", "cli.load_judge_from", default="embedded", help="the judge's folder."),
}
HIDDEN = {
    "evaluate": {"judge", "reference", "progress"},
    "reference": {"progress"},
    "pretrain": {"on_tick", "timer"},
    "distill": {"timer"},
    "calibrate": {"progress"},
}  # of no use as a flag
SHOWN = {
    "out": "FOLDER",
    "folder": "FOLDER",
    "root": "FOLDER",
    "run": "FOLDER",
    "name": "student|teacher",
    "device": "cpu|cuda|...",
    "inception": "FILE|download",
    "size": "PIXELS",
    "neighbours": "FILE.png",
    "mosaic": "FILE.png",
    "student": "embedded|FOLDER",
    "source": "FILE",
    "path": "FILE.xml|FILE.onnx",
    "precision": "fp32|fp16|int8",
}


def main(argv=None):
    """Runs one command and returns its exit code: 0, 2 for bad input (one line on stderr), 130 for Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(argv)
    except (InputError, OSError) as error:
        _close_bars()
        print(f"gsoc-kd: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _close_bars()
        print(
            f"\ngsoc-kd: stopped; what is done is kept, the same command continues: gsoc-kd {shlex.join(argv)}",
            file=sys.stderr,
        )
        return 130


def _close_bars():
    """Progress bars that an error left open would be drawn once more, after its one line."""
    if "tqdm" in sys.modules:
        for bar in list(getattr(sys.modules["tqdm"].tqdm, "_instances", ())):
            bar.close()


def _main(argv):
    if not argv or argv[0] in ("-h", "--help"):
        print(
            "usage: gsoc-kd VERB [flags]        gsoc-kd VERB --help explains the flags of a verb\n\n"
            "A small image generator learns to draw a big one's pictures.\n"
        )
        print("\n".join(f"  {verb:<12} {told}" for verb, (_, _, told) in VERBS.items()))
        print("\n  --version    version of gsoc_kd")
        return 0
    if argv[0] == "--version":
        from . import __version__

        print(f"gsoc-kd {__version__}")
        return 0
    verb, *words = argv
    if verb not in VERBS:
        hint = "".join(f", did you mean {near!r}?" for near in difflib.get_close_matches(verb, VERBS, n=1))
        raise InputError(f"there is no verb {verb!r}{hint}; the verbs are {', '.join(VERBS)}")
    module, function, _ = VERBS[verb]
    function = getattr(importlib.import_module(f"gsoc_kd.{module}"), function)
    given = _parse(verb, function, words)
    if given is None:  # --help
        return 0
    out = given.pop("scores_out", None)
    loaded = _load(function, given)
    if given.get("score_ticks"):
        loaded["on_tick"] = score_every(given["score_ticks"], given["config"], loaded["real"], given["device"])
    from .reports import report

    result = function(**loaded)
    if given.get("publish"):
        publish_teacher(result.folder, loaded["real"])
    report(verb, result, given, loaded, out)
    return 0


# ---------------------------------------------------------------- from a signature to flags and back


def _parse(verb, function, words):
    """{flag: value} of the words after the verb; None after --help."""
    import tyro

    parameters = {p.name: p for p in _parameters(verb, function, words)}

    def command(**values):
        return values

    command.__signature__ = inspect.Signature(list(parameters.values()))
    command.__annotations__ = {name: p.annotation for name, p in parameters.items()}
    command.__doc__ = re.split(r"\n\s*(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, prog=f"gsoc-kd {verb}", args=words)
    except SystemExit as end:
        if end.code:
            raise InputError(f"{_one_line(complaint.getvalue())} (gsoc-kd {verb} --help)") from None


def _parameters(verb, function, words):
    """The command's parameters: those of `function`, made into flags, and what their loaders can be told."""
    signature, hints, told = inspect.signature(function), get_type_hints(function), _told(function)
    for name, parameter in signature.parameters.items():
        if name in HIDDEN.get(verb, ()):
            continue
        word = WORDS.get(name)
        if name == "config":
            yield from _config(verb, words)
        elif word is None:
            yield _flag(name, hints.get(name), parameter.default, told.get(name))
        else:
            default = word.default if parameter.default is parameter.empty else parameter.default
            yield _flag(name, None, default, word.help or told.get(name), word.shown)
            loader = _loader(word)
            for extra in word.also:
                if extra not in signature.parameters:
                    default = inspect.signature(loader).parameters[extra].default
                    yield _flag(extra, None, default, f"for --{name}: {_told(loader)[extra]}")
    if verb == "evaluate":
        yield _flag("scores_out", None, None, "file to write the scores to, as JSON.", "FILE", flag="out")
    if verb == "pretrain":
        yield _flag(
            "score_ticks",
            int,
            0,
            "score 10,000 pictures every so many ticks: CIFAR-FD and class agreement "
            "go into stats.jsonl. Training never sees them. 0: never.",
            "TICKS",
        )
        yield _flag(
            "publish",
            bool,
            True,
            "at the end, score the generator (where the pictures are CIFAR-10's) and write "
            "it in float16 to OUT/float16.",
        )


def _flag(name, kind, default, told, shown=None, flag=None):
    import tyro

    if kind is None:
        kind = str if default in (None, inspect.Parameter.empty) else type(default)
    kind = Optional[int] if name == "size" else Optional[kind] if default is None else kind
    options = {"metavar": shown or SHOWN.get(name), "help": told, "name": flag}
    options = tyro.conf.arg(**{key: value for key, value in options.items() if value})
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, options])


def _config(verb, words):
    """--preset, and a flag for every field of the config with the preset's value as default."""
    import tyro

    module, name = CONFIGS[verb]
    module = importlib.import_module(f"gsoc_kd.{module}")
    kind, preset = getattr(module, name), "laptop"
    for word, following in zip(words, [*words[1:], ""]):
        if word.startswith("--preset"):
            preset = word.partition("=")[2] or following
    config = kind.preset(preset)
    yield _flag(
        "preset",
        str,
        preset,
        "named settings to start from; the config options below change single "
        "ones, and show this preset's values as their defaults.",
        "|".join(module.PRESETS),
    )
    yield inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=config, annotation=Annotated[kind, tyro.conf.OmitArgPrefixes]
    )


def _load(function, given):
    """The arguments of `function`: words become objects, and a device that is not there is refused."""
    names, loaded = inspect.signature(function).parameters, {}
    if given.get("device") is not None:
        _check_device(given["device"])
    for name, value in given.items():
        if name in WORDS and value is not None:
            word = WORDS[name]
            more = {extra: given[extra] for extra in word.also if extra in given}
            value = _loader(word)(value, **word.fixed, **more)
        if name in names:
            loaded[name] = value
    return loaded


def _loader(word):
    module, _, name = word.loader.rpartition(".")
    return getattr(importlib.import_module(f"gsoc_kd.{module}"), name)


def load_generator(source):
    """The generator to score: "student" or "teacher", the embedded ones, or the folder of a network or run."""
    from .teachers.load import EMBEDDED, load_teacher

    return load_teacher(EMBEDDED / source if source in ("student", "teacher") else source)


def load_judge_from(folder):
    """The judge in `folder`, or the embedded one."""
    from .core.weights import load_network
    from .evaluation.classifier import Judge, load_judge

    return load_judge() if folder == "embedded" else load_network(folder, (Judge,))


def score_every(ticks, config, real, device=None):
    """What `pretrain` calls after a tick: every so many ticks the judge scores 10,000 pictures, 1,000 a class."""
    from .evaluation.evaluate import evaluate
    from .training.devices import pick_device

    if ticks < 0:
        raise InputError(f"--score-ticks is {ticks}; give a whole number, 0 for never")
    if not is_cifar10(real):
        raise InputError(
            "--score-ticks scores against the embedded statistics of CIFAR-10, and these are other "
            "pictures; leave it away, and score with gsoc-kd evaluate --real"
        )
    steps, device = ticks * config.tick_steps, pick_device(device)

    def on_tick(generator, row):
        if row["step"] % steps:
            return {}
        scores = evaluate(generator, device=device, progress=False)
        return {"cifar_fd": scores["cifar_fd"], "class_agreement": scores["class_agreement"]}

    return on_tick


def publish_teacher(run, real):
    """What `pretrain` ends with: its generator scored and written in float16, by one process."""
    from accelerate import PartialState

    from .embed import publish

    if PartialState().is_main_process:
        scores, folder = publish(run, run / "float16", scored=is_cifar10(real)), run / "float16"
        told = (
            "not scored, as these are other pictures than CIFAR-10's"
            if scores is None
            else f"CIFAR-FD {scores['cifar_fd']:.2f}, class agreement {scores['class_agreement']:.1%} "
            f"({scores['images']:,} pictures)"
        )
        print(f"{folder}: {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {told}")


def is_cifar10(real):
    """Whether the embedded statistics and the judge fit these pictures."""
    from .data.images import CIFAR10_CLASSES

    return tuple(real.classes) == tuple(CIFAR10_CLASSES) and real.resolution == 32


def _check_device(name):
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None


@functools.cache
def _told(function):
    """{parameter: its help} from the docstring's Args."""
    from docstring_parser import parse

    return {
        name.strip(): " ".join(entry.description.split()).replace("LabelledImages", "real images")
        for entry in parse(inspect.getdoc(function) or "").params
        for name in entry.arg_name.split(",")
    }


def _one_line(box):
    """tyro's framed complaint as one sentence."""
    lines = re.split(r"Argument helptext|For full helptext", box)[0].splitlines()
    lines = [line.strip(" │|") for line in lines if not re.fullmatch(r"[\s│|╭╮╰╯─+-]*|[╭+].*[╮+]", line)]
    return " ".join(" ".join(lines).split())
