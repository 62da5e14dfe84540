"""`gsoc-kd VERB`: runs one of the verbs (verbs.py), in one line where something is wrong."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import sys
import warnings
from typing import Annotated, get_type_hints

import gsoc_kd as kd

from .core.files import InputError
from .verbs import VERBS


def main(argv=None):
    """Runs one command and returns its exit code: 0, 2 for bad input (one line on stderr), 130 for Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # letters that the terminal's encoding lacks
    try:
        with notes():
            if not argv or argv[0] in ("-h", "--help"):
                print("usage: gsoc-kd VERB [flags]        gsoc-kd VERB --help explains the flags of a verb\n")
                print("A small image generator learns from a big one's images alone.\n")
                print(*(f"  {verb:<9}  {kind.__doc__}" for verb, kind in VERBS.items()), sep="\n")
                print("\n  --version  version of gsoc_kd")
                print("  --tyro-print-completion bash|zsh|fish  what makes that shell complete verbs and flags")
            elif argv[0] == "--version":
                print(f"gsoc-kd {kd.__version__}")
            elif argv[0].startswith("--tyro-"):
                complete(argv)
            elif command := parse(argv):
                with open(os.devnull, "w", encoding="utf-8") as nowhere:
                    with contextlib.redirect_stderr(nowhere if command.quiet else sys.stderr):
                        command.run()
            sys.stdout.flush()
        return 0
    except (InputError, OSError) as error:
        code, told = 2, str(error)
    except KeyboardInterrupt:
        code, told = 130, f"stopped; the same command continues: gsoc-kd {shlex.join(argv)}"
    except Exception as error:  # noqa: BLE001  what nobody has foreseen is one line, too
        if os.environ.get("GSOC_KD_TRACEBACK"):
            raise
        code, told = 2, f"{type(error).__name__}: {error} (GSOC_KD_TRACEBACK=1 shows where)"
    # after `except`: what the error held, a progress bar for instance, has ended by now
    told = "".join(letter if letter.isprintable() else " " for letter in " ".join(told.split()))[:4000]
    print(f"gsoc-kd: error: {told}" if code == 2 else f"\ngsoc-kd: {told}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:  # nobody reads, or the disk is full: Python would complain once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


@contextlib.contextmanager
def notes():
    """A context in which the package's own warnings are lines on stderr, also with --quiet."""
    with warnings.catch_warnings():
        shown, errors = warnings.showwarning, sys.stderr

        def show(message, category, *where):
            if category.__name__ == "InputWarning":
                print(f"gsoc-kd: note: {message}", file=errors)
            else:
                shown(message, category, *where)

        warnings.showwarning = show
        yield


def complete(words):
    """tyro's flags for shells: prints, or writes, what makes a shell complete the verbs and their flags."""
    import tyro

    told, verbs = io.StringIO(), {verb: flagged(kind) for verb, kind in VERBS.items()}
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            config = (tyro.conf.OmitArgPrefixes,)
            tyro.extras.subcommand_cli_from_dict(verbs, prog="gsoc-kd", args=words, config=config)
    except (SystemExit, AssertionError, ImportError) as end:  # of a shell that tyro does not know
        if getattr(end, "code", 2):
            known = "gsoc-kd --tyro-print-completion bash (or zsh, fish)"
            raise InputError(f"{' '.join(words)} is not understood; there is {known}") from None
    print(told.getvalue())


def flagged(kind):
    """A verb's class, with names that are words of Python (from_) as flags without the underscore."""
    import tyro

    for name in kind._fields:
        if name.endswith("_"):
            kind.__annotations__[name] = Annotated[get_type_hints(kind)[name], tyro.conf.arg(name=name[:-1])]
    return kind


def parse(words):
    """The command that the words ask for, e.g. a Distill; None after --help. Raises InputError for others."""
    import tyro

    verb, *words = words
    if verb not in VERBS:
        hint = "".join(f", did you mean {near!r}?" for near in difflib.get_close_matches(verb, VERBS, n=1))
        raise InputError(f"there is no verb {verb!r}{hint}; the verbs are {', '.join(VERBS)}")
    kind, told, options = VERBS[verb], io.StringIO(), {"args": words, "prog": f"gsoc-kd {verb}"}
    try:
        # Not at a terminal, tyro's help is plain text, and so is a complaint: title, dashes, the sentence, dashes, more
        # help. It has no public way to get the sentence alone.
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            if config := get_type_hints(kind).get("config"):  # the preset comes first: it makes the others' defaults
                named = {"preset": "laptop"}
                named, _ = tyro.cli(dict, default=named, args=words, return_unknown_args=True, add_help=False)
                options["default"] = kind(config.preset(named["preset"]), **named)
            return tyro.cli(flagged(kind), config=(tyro.conf.OmitArgPrefixes,), **options)
    except SystemExit as end:
        if end.code:
            sentence = re.split("Argument helptext|For full helptext", told.getvalue().partition("\n")[2])[0]
            raise InputError(f"{re.sub('---+', '', sentence)} (gsoc-kd {verb} --help)") from None
        print(told.getvalue())
