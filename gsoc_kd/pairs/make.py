"""FakeCIFAR10: noise, label and the teacher's image, the only things a student is trained on. As many images of every
class (TinyGAN, Chang & Lu 2020, arXiv 2009.13829, section 3); docs/Black-Box-Distillation.md has the reasons."""

import os
import shutil
import time

import numpy as np
import torch
from tqdm import tqdm

from ..core.checks import whole
from ..core.files import InputError, read_json, sweep, write_json, writing
from ..teachers.load import load_teacher
from .folder import FILES, FORMAT, SETTINGS, load_pairs, open_array, output_folder, write_manifest

SAVE_EVERY = 2.0  # seconds between two notes of progress: a killed process loses at most so much work


def draw_latents(seed, chunk, count, z_dim):
    """The noise of chunk number `chunk`: N(0, 1) rounded to float16, a numpy array (count, z_dim). It depends on
    the four arguments alone; every (seed, chunk) has a stream of its own."""
    state = np.random.SeedSequence(seed, spawn_key=(chunk,)).generate_state(1, np.uint64)[0]
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(int(state))).half().numpy()


def draw_pictures(teacher, per_class, seed, batch=250, progress=None):
    """`per_class` images of each class from a Teacher, in memory: (images uint8 (N, H, W, 3), labels (N,)),
    class after class. The latents of class c are draw_latents(seed, c, ...); `progress` is a bar's text."""
    images, labels = [], np.repeat(np.arange(teacher.num_classes), per_class)
    with tqdm(total=len(labels), desc=progress, unit="img", disable=progress is None, leave=False) as bar:
        for c in range(teacher.num_classes):
            for z in torch.from_numpy(draw_latents(seed, c, per_class, teacher.z_dim)).split(batch):
                images.append(teacher(z, torch.full((len(z),), c)))
                bar.update(len(z))
    return np.concatenate(images), labels


def make_pairs(teacher="embedded", per_class: int = 1000, seed: int = 0, out="runs/pairs", chunk: int = 500):
    """Asks a teacher for `per_class` images of each class and keeps noise, label and image as Pairs, class by class.

    The work grows in the folder `<out>.partial`. Interrupted, the same call continues there and ends with the very
    bytes of an uninterrupted one (on the same machine). If `out` is already whole, it is loaded, and no work is done.
    InputError: bad arguments; `out` or its partial folder was made with other settings or holds something else; the
    disk is full (what is done is kept).

    Args:
        teacher: whatever `load_teacher` takes: "embedded", a folder, a Teacher, a network, a callable.
        seed: of the noise, a whole number from 0.
        out: the folder to make.
        chunk: rows that are asked for and written at once; each chunk has its own stream of noise."""
    asked = dict(seed=whole("seed", seed, 0), chunk=whole("chunk", chunk), per_class=whole("per_class", per_class))
    out, teacher = output_folder(out), load_teacher(teacher)
    partial = out.with_name(out.name + ".partial")
    sweep(partial)
    known = asked | dict(format=FORMAT, teacher=teacher.name, psi=float(teacher.psi), classes=list(teacher.classes))
    settings = {key: known[key] if key in known else getattr(teacher, key) for key in SETTINGS}
    if out.is_dir() and any(out.iterdir()):
        pairs = load_pairs(out)
        _compare(out, pairs.manifest, settings)
        (out / "progress.json").unlink(missing_ok=True)  # killed just before it was removed
        print(f"{out}: already made, {len(pairs)} pairs")
        return pairs
    with writing(partial):
        settings, done, offsets = _begin(partial, settings)
    _fill(partial, teacher, settings, done, offsets)
    with writing(partial):
        write_manifest(partial, settings, [settings["per_class"]] * teacher.num_classes)
        if out.exists():
            out.rmdir()  # it is empty
        partial.rename(out)
        (out / "progress.json").unlink()
    return load_pairs(out, verify=False)  # the hashes were made a moment ago


def _begin(partial, settings):
    """Makes the partial folder, or finds how far an older one got: settings, rows done, where rows begin."""
    total, side = settings["per_class"] * len(settings["classes"]), settings["resolution"]
    shapes = (total, side, side, 3), (total,), (total, settings["z_dim"])
    if not (partial / "progress.json").is_file():
        partial.mkdir(parents=True, exist_ok=True)
        if foreign := {p.name for p in partial.iterdir()} - set(FILES):
            raise InputError(f"{partial} holds {min(foreign)}, no file of pairs: move it away or choose another out")
        needed, free = total * (3 * side**2 + 8 + 2 * settings["z_dim"]) / 1e6, shutil.disk_usage(partial).free / 1e6
        if needed > free:
            raise InputError(f"{total} pairs need {needed:.1f} MB, {partial} has {free:.1f} MB free: ask for fewer")
        for (name, dtype), shape in zip(FILES.items(), shapes):
            np.lib.format.open_memmap(partial / name, mode="w+", dtype=dtype, shape=shape)
        write_json(partial / "progress.json", {"settings": settings, "rows": 0})
    state = read_json(partial / "progress.json")
    _compare(partial, state["settings"], settings)
    arrays = {name: open_array(partial / name) for name in FILES}
    if tuple(array.shape for array in arrays.values()) != shapes:
        raise InputError(f"{partial} holds arrays of other sizes than progress.json says: remove it and start again")
    return state["settings"], state["rows"], {name: array.offset for name, array in arrays.items()}


def _fill(partial, teacher, settings, done, offsets):
    """Asks for the rows from `done` on, chunk by chunk, and writes each where it belongs."""
    total, chunk, noted = settings["per_class"] * teacher.num_classes, settings["chunk"], time.monotonic()
    with tqdm(total=total, initial=done, unit="pair", desc=f"pairs from {teacher.name}") as bar:
        try:
            while done < total:
                count = min(chunk, total - done)
                z = draw_latents(settings["seed"], done // chunk, count, teacher.z_dim)  # (count, z_dim) float16
                y = np.arange(done, done + count, dtype=np.int64) // settings["per_class"]  # (count,)
                x = teacher(z, y)  # (count, H, H, 3) uint8
                with writing(partial):
                    for (name, offset), rows in zip(offsets.items(), (x, y, z)):
                        with open(partial / name, "r+b") as file:  # a full disk is an error here;
                            file.seek(offset + done * rows[0].nbytes)  # a memory map would kill the process
                            file.write(np.ascontiguousarray(rows).data)
                done += count
                bar.update(count)
                if time.monotonic() - noted > SAVE_EVERY:
                    _note(partial, settings, done)
                    noted = time.monotonic()
        finally:  # also after Ctrl-C, a full disk, a failing teacher
            _note(partial, settings, done)


def _note(partial, settings, rows):
    """Writes how many rows are done, after those rows are on the disk."""
    with writing(partial):
        for name in FILES:
            with open(partial / name, "r+b") as file:
                os.fsync(file.fileno())
        write_json(partial / "progress.json", {"settings": settings, "rows": rows})


def _compare(folder, old, new):
    """Refuses to mix pairs of different settings. Equal digests are the same teacher under any name."""
    same = new["digest"] is not None and old.get("digest") == new["digest"]
    differ = [key for key in SETTINGS if old.get(key) != new[key] and not (key == "teacher" and same)]
    if told := "; ".join(f"{key} {old.get(key)!r}, now {new[key]!r}" for key in differ):
        raise InputError(f"{folder} was made with other settings ({told}): ask for those, or choose another out")
