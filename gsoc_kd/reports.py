"""What a command says at its end."""

import json
from pathlib import Path

from .core.files import write_json


def report(verb, result, given, loaded, out):
    """Prints it.

    Args:
        verb: the command. result: what its function returned.
        given: {flag: word or number}. loaded: {parameter: the object that the function got}.
        out: for evaluate, a file to write the scores to, or None.
    """
    if verb == "pairs":
        counts = sorted(set(result.manifest["counts"]))
        print(
            f"{result.path}: {len(result):,} pairs, {'-'.join(map(str, counts))} a class, drawn by "
            f"{result.manifest['teacher']}"
        )
    elif verb in ("distill", "pretrain"):
        print(f"{result.folder}: done; score it with: gsoc-kd evaluate --generator {result.folder}")
    elif verb == "export":
        size = sum(file.stat().st_size for file in {result, result.with_suffix(".bin")} if file.is_file())
        also = " with its .bin" if result.suffix == ".xml" else ""
        print(f"{result}: {given['precision']}, {size / 1000:,.0f} kB{also}")
    elif verb == "convert":
        print(f"{result}: converted; ask it with: gsoc-kd pairs --teacher {result}")
    elif verb == "reference":
        print(
            f"{given['folder']}: {result.overall.count:,} real images; floor "
            f"{json.dumps({key: result.floor[key] for key in ('cifar_fd', 'class_agreement')})}"
        )
    elif verb == "embed":
        print(
            f"embedded as {given['name']}: CIFAR-FD {result['cifar_fd']:.2f}, class agreement "
            f"{result['class_agreement']:.1%}"
        )
    elif verb == "results":
        print(result)
    elif verb == "calibrate":
        from .deployment.calibrate import table

        print(table(result))
    elif verb == "evaluate":
        from .evaluation.table import floor_row, row, table

        rows = [floor_row(result["floor"])] if result["floor"] else []
        print(table([*rows, row(Path(given["generator"]).name, loaded["generator"], result)]))
        if result["cifar_is"]:
            print(
                f"CIFAR-precision {result['cifar_precision']:.1%}, CIFAR-KID {result['cifar_kid']['mean']:.5f}, CIFAR-IS "
                f"{result['cifar_is']['mean']:.2f}"
            )
        if "fid" in result:
            print(
                f"FID {result['fid']:.2f}, inception score {result['inception_score']['mean']:.2f} "
                f"({result['images']:,} images, {result['reference']['split']})"
            )
        if "agreement" in result:
            a = result["agreement"]
            print(
                f"to {a['teacher']}, pair by pair: L1 {a['l1']:.1f} grey levels (other noise: {a['l1_other_noise']:.1f}), "
                f"features {a['feature_distance']:.2f} (other noise: {a['feature_distance_other_noise']:.2f}); CIFAR-FD "
                f"{result['cifar_fd_to_teacher']:.2f} (floor: {result['cifar_fd_to_teacher_floor']:.2f})"
            )
        if "nearest_training" in result:
            print(
                f"nearest training neighbours: {result['nearest_training']['closer']:.1%} are nearer than half of the "
                f"real pictures that were not in training; drawn to {given['neighbours']}"
            )
        if out:
            write_json(out, result)
            print(f"scores written to {out}")
        if given["mosaic"]:
            print(f"map of pictures drawn to {given['mosaic']}")
