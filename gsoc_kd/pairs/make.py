"""FakeCIFAR10: noise, label and the teacher's picture, the only things a student is trained on.

A teacher is asked for the same number of pictures of every class, and noise, label and picture are kept
(TinyGAN, Chang & Lu 2020, arXiv 2009.13829, section 3). `triples.py` has the folder that holds them;
docs/Black-Box-Distillation.md the reasons.
"""

import contextlib
import os
import shutil
import time

import numpy as np
import torch
from tqdm import tqdm

from ..core.files import InputError, read_json, sweep, write_json, writing
from ..teachers.load import load_teacher
from .folder import FILES, FORMAT, SETTINGS, load_pairs, occupied, output_folder, write_manifest

SAVE_EVERY = 2.0  # seconds between two notes of progress: a killed process loses at most so much work


def draw_latents(seed, chunk, count, z_dim):
    """The noise of chunk number `chunk`: N(0, 1) rounded to float16, a numpy array (count, z_dim).

    It depends on the four arguments alone; every (seed, chunk) has a stream of its own.
    """
    state = np.random.SeedSequence(seed, spawn_key=(chunk,)).generate_state(1, np.uint64)[0]
    noise = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(int(state)))
    return noise.to(torch.float16).numpy()


def draw_pictures(teacher, per_class, seed, batch=250, progress=None):
    """`per_class` pictures of each class from a Teacher, in memory: (images uint8 (N, H, W, 3), labels (N,)),
    class after class. The latents of class c are draw_latents(seed, c, ...); `progress` is a bar's text."""
    images = []
    with tqdm(
        total=per_class * teacher.num_classes, desc=progress, unit="img", disable=progress is None, leave=False
    ) as bar:
        for c in range(teacher.num_classes):
            for z in torch.from_numpy(draw_latents(seed, c, per_class, teacher.z_dim)).split(batch):
                images.append(teacher(z, torch.full((len(z),), c)))
                bar.update(len(z))
    return np.concatenate(images), np.repeat(np.arange(teacher.num_classes), per_class)


def make_pairs(teacher="embedded", per_class: int = 1000, seed: int = 0, out="runs/pairs", chunk: int = 500):
    """Asks a teacher for `per_class` pictures a class and keeps noise, label and picture, class by class.

    The work grows in the folder `<out>.partial`. Interrupted, the same call continues there and ends with the
    very bytes of an uninterrupted one (on the same machine). If `out` is already whole, it is loaded, and no
    work is done.

    Args:
        teacher: whatever `load_teacher` takes: "embedded", a folder, a Teacher, a network, a callable.
        per_class: pictures a class.
        seed: of the noise, a whole number from 0.
        out: the folder to make.
        chunk: rows that are drawn, asked for and written at once; each chunk has its own stream of noise.

    Returns:
        Pairs.

    Raises:
        InputError: bad arguments; `out` or its partial folder was made with other settings or holds something
            else; the disk is full (what is done is kept).
    """
    for name, value, least in (("per_class", per_class, 1), ("seed", seed, 0), ("chunk", chunk, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    out, teacher = output_folder(out), load_teacher(teacher)
    partial = out.with_name(out.name + ".partial")
    sweep(partial)
    settings = {
        "format": FORMAT,
        "teacher": teacher.name,
        "digest": teacher.digest,
        "psi": float(teacher.psi),
        "half": teacher.half,
        "seed": int(seed),
        "chunk": int(chunk),
        "per_class": int(per_class),
        "z_dim": teacher.z_dim,
        "resolution": teacher.resolution,
        "classes": list(teacher.classes),
    }
    if occupied(out):
        pairs = load_pairs(out)
        _compare(out, pairs.manifest, settings)
        (out / "progress.json").unlink(missing_ok=True)  # killed just before it was removed
        print(f"{out}: already made, {len(pairs)} pairs")
        return pairs
    total = teacher.num_classes * settings["per_class"]
    with writing(partial):
        settings, done, offsets = _begin(partial, settings, total)
    noted = time.monotonic()
    bar = tqdm(total=total, initial=done, unit="pair", desc=f"pairs from {teacher.name}")
    try:
        while done < total:
            count = min(chunk, total - done)
            z = draw_latents(seed, done // chunk, count, teacher.z_dim)  # (count, z_dim) float16
            y = np.arange(done, done + count, dtype=np.int64) // per_class  # (count,)
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
    except BaseException:  # Ctrl-C, a full disk, a failing teacher
        with contextlib.suppress(InputError):
            _note(partial, settings, done)
        raise
    finally:
        bar.close()
    _note(partial, settings, done)
    with writing(partial):
        write_manifest(partial, settings, [per_class] * teacher.num_classes)
        if out.exists():
            out.rmdir()  # empty, or it would be occupied
        partial.rename(out)
        (out / "progress.json").unlink()
    return load_pairs(out, verify=False)  # the hashes were made a moment ago


def _begin(partial, settings, total):
    """Makes the partial folder, or finds how far an older one got: settings, rows done, where rows begin."""
    side = settings["resolution"]
    shapes = {"images.npy": (total, side, side, 3), "labels.npy": (total,), "latents.npy": (total, settings["z_dim"])}
    progress = partial / "progress.json"
    if not progress.is_file():
        partial.mkdir(parents=True, exist_ok=True)
        if foreign := {p.name for p in partial.iterdir()} - set(FILES):
            raise InputError(
                f"{partial} holds {min(foreign)}, which is not part of a folder of pairs: move "
                "it away or choose another out"
            )
        needed = sum(int(np.prod(shapes[name])) * np.dtype(dtype).itemsize for name, dtype in FILES.items())
        free = shutil.disk_usage(partial).free
        if needed > free:
            raise InputError(
                f"{total} pairs need {needed / 1e6:.1f} MB, the disk of {partial} has "
                f"{free / 1e6:.1f} MB free: make room, or ask for fewer pairs a class"
            )
        for name, dtype in FILES.items():
            np.lib.format.open_memmap(partial / name, mode="w+", dtype=dtype, shape=shapes[name])
        write_json(progress, {"settings": settings, "rows": 0})
    state, offsets = read_json(progress), {}
    _compare(partial, state["settings"], settings)
    for name, dtype in FILES.items():
        try:
            rows = np.load(partial / name, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError):
            rows = None
        if rows is None or rows.shape != shapes[name] or rows.dtype != dtype:
            raise InputError(f"{partial / name} is missing or damaged: remove {partial} and start again")
        offsets[name] = rows.offset
    return state["settings"], state["rows"], offsets


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
    old = {"half": False, **old}  # pairs made before there was a choice
    differ = [
        f"{key} {old.get(key)!r}, now {new[key]!r}"
        for key in SETTINGS
        if old.get(key) != new[key] and not (key == "teacher" and same)
    ]
    if differ:
        raise InputError(
            f"{folder} was made with other settings ({'; '.join(differ)}): ask for the same "
            "ones, choose another out, or remove the folder"
        )
