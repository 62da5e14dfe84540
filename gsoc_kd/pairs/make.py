"""FakeCIFAR10: noise, label and the teacher's image, the only things a student is trained on. As many images of every
class (TinyGAN, Chang & Lu 2020, arXiv 2009.13829, section 3); docs/Black-Box-Distillation.md has the reasons."""

import contextlib
import hashlib
import os
import shutil
import time

import numpy as np
import torch
from tqdm import tqdm

from ..core.checks import whole
from ..core.files import InputError, contents, locked, read_json, sweep, write_json, writing
from ..core.latents import sample
from ..core.state import untouched
from ..teachers.load import load_teacher
from .folder import FILES, FORMAT, SETTINGS, load_pairs, open_array, output_folder, write_manifest

CHUNK = 500  # rows that are asked for and written at once
SAVE_EVERY = 2.0  # seconds between two notes of progress: a killed process loses at most so much work


def draw_latents(seed, chunk, count, z_dim, z_from="normal"):
    """The noise of chunk number `chunk`: from N(0, 1), or with z_from="uniform" from [0, 1), rounded to float16, a
    numpy array (count, z_dim). It depends on the arguments alone; every (seed, chunk) has a stream of its own."""
    state = np.random.SeedSequence(seed, spawn_key=(chunk,)).generate_state(1, np.uint64)[0]
    return sample(z_from, count, z_dim, generator=torch.Generator().manual_seed(int(state))).half().numpy()


def generate_images(teacher, per_class, seed, batch=250, z_from=None, progress=None):
    """`per_class` images of each class from a Teacher, in memory: (images uint8 (N, H, W, 3), labels (N,)),
    class after class. The latents of class c are draw_latents(seed, c, ...), from `z_from`, by default the teacher's;
    `progress` is a bar's text."""
    images, labels = [], np.repeat(np.arange(teacher.num_classes), per_class)
    with tqdm(total=len(labels), desc=progress, unit="img", disable=progress is None, leave=False) as bar:
        for c in range(teacher.num_classes):
            latents = draw_latents(seed, c, per_class, teacher.z_dim, z_from or teacher.z_from)
            for z in torch.from_numpy(latents).split(batch):
                images.append(teacher(z, torch.full((len(z),), c)))
                bar.update(len(z))
    return np.concatenate(images), labels


@untouched
def make_pairs(teacher="embedded", per_class: int = 1000, seed: int = 0, out="runs/pairs", chunk: int = CHUNK):
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
    known = asked | dict(format=FORMAT, teacher=teacher.name, psi=float(teacher.psi), classes=list(teacher.classes))
    known |= {key: getattr(teacher, key) for key in ("digest", "half", "z_dim", "z_from", "resolution")}
    seed, chunk, per_class = asked.values()

    def ask(start, count):
        z = draw_latents(seed, start // chunk, count, teacher.z_dim, teacher.z_from)  # (count, z_dim) float16
        y = np.arange(start, start + count, dtype=np.int64) // per_class  # (count,)
        return teacher(z, y), y, z

    counts = [per_class] * teacher.num_classes
    return write_pairs(out, known | {"source": None}, counts, ask, f"pairs from {teacher.name}")


def write_pairs(out, settings, counts, ask, told):
    """Fills the folder `out` with pairs, chunk by chunk, or goes on where the same call stopped, and loads it.

    settings: {key of SETTINGS: what the manifest says}; counts: pairs of each class, in the order of the rows;
    ask(start, count): rows of images, labels and latents; told: what stands at the progress bar."""
    out, settings = output_folder(out), {key: settings[key] for key in SETTINGS}
    if not made(out):
        with locked(out):
            if not made(out):  # or another process has made it meanwhile
                _write(out, settings, counts, ask, told)
                return load_pairs(out, verify=False)  # the hashes were made a moment ago
    pairs = load_pairs(out)  # several processes may do so at once
    _compare(out, pairs.manifest, settings)
    with contextlib.suppress(OSError):  # of one who was killed just before; the disk may be read-only
        (out / "progress.json").unlink(missing_ok=True)
    print(f"{out}: already made, {len(pairs)} pairs")
    return pairs


def made(out):
    """Whether a folder is there with something in it: it appears whole, by a rename."""
    return out.is_dir() and bool(contents(out))


def _write(out, settings, counts, ask, told):
    partial = out.with_name(out.name + ".partial")
    sweep(partial)
    with writing(partial):
        settings, progress, offsets = _begin(partial, settings, sum(counts))
    hashes = _fill(partial, ask, settings, progress, sum(counts), offsets, told)
    with writing(partial):
        write_manifest(partial, settings, counts, {name: made.hexdigest() for name, made in hashes.items()})
        if out.exists():
            shutil.rmtree(out)  # it is empty, but for what systems leave behind
        partial.rename(out)
        (out / "progress.json").unlink(missing_ok=True)


def _begin(partial, settings, total):
    """Makes the partial folder, or finds how far an older one got: settings, (rows done, SHA-256 of each file up to
    them), where rows begin."""
    side = settings["resolution"]
    shapes = (total, side, side, 3), (total,), (total, settings["z_dim"])
    if not (partial / "progress.json").is_file():
        partial.mkdir(parents=True, exist_ok=True)
        if foreign := contents(partial) - set(FILES):
            raise InputError(f"{partial} holds {min(foreign)}, no file of pairs: move it away or choose another out")
        needed, free = total * (3 * side**2 + 8 + 2 * settings["z_dim"]) / 1e6, shutil.disk_usage(partial).free / 1e6
        if needed > free:
            raise InputError(f"{total} pairs need {needed:.1f} MB, {partial} has {free:.1f} MB free: ask for fewer")
        for (name, dtype), shape in zip(FILES.items(), shapes):
            np.lib.format.open_memmap(partial / name, mode="w+", dtype=dtype, shape=shape)
        offsets = {name: open_array(partial / name).offset for name in FILES}
        _note(partial, settings, 0, _hashes(partial, offsets))
    state = read_json(partial / "progress.json", check=True)
    _compare(partial, state["settings"], settings)
    arrays = {name: open_array(partial / name) for name in FILES}
    if tuple(array.shape for array in arrays.values()) != shapes:
        raise InputError(f"{partial} holds arrays of other sizes than progress.json says: remove it and start again")
    offsets = {name: array.offset for name, array in arrays.items()}
    ends = {name: array.offset + state["rows"] * array[0].nbytes for name, array in arrays.items()}
    hashes = _hashes(partial, ends)
    for name, made in hashes.items():
        if made.hexdigest() != state["sha256"][name]:
            raise InputError(f"{partial / name} is damaged (its sha256 differs): remove {partial} and start again")
    return state["settings"], (state["rows"], hashes), offsets


def _hashes(partial, ends):
    """{file: SHA-256 of its bytes up to its end in `ends`}, to be gone on with."""
    found = {name: hashlib.sha256() for name in ends}
    for name, end in ends.items():
        with open(partial / name, "rb") as file:
            while part := file.read(min(end - file.tell(), 1 << 20)):
                found[name].update(part)
    return found


def _fill(partial, ask, settings, progress, total, offsets, told):
    """Asks for the rows that `progress` lacks, chunk by chunk, and writes each where it belongs. Returns the files'
    SHA-256 at the end: of what was asked for, whatever became of it on the disk."""
    chunk, noted, (done, hashes) = settings["chunk"], time.monotonic(), progress
    with tqdm(total=total, initial=done, unit="pair", desc=told) as bar:
        try:
            while done < total:
                count = min(chunk, total - done)
                given = [np.ascontiguousarray(rows).data for rows in ask(done, count)]  # images, labels, latents
                with writing(partial):
                    for (name, offset), rows in zip(offsets.items(), given):
                        with open(partial / name, "r+b") as file:  # a full disk is an error here;
                            file.seek(offset + done * (rows.nbytes // count))  # a memory map would kill the process
                            file.write(rows)
                made = {name: hashes[name].copy() for name in FILES}
                for name, rows in zip(FILES, given):
                    made[name].update(rows)
                progress = done, hashes = done + count, made
                bar.update(count)
                if time.monotonic() - noted > SAVE_EVERY:
                    _note(partial, settings, done, hashes)
                    noted = time.monotonic()
        finally:  # also after Ctrl-C, a full disk, a failing teacher
            _note(partial, settings, *progress)
    return hashes


def _note(partial, settings, rows, hashes):
    """Writes how many rows are done, and the files' SHA-256 up to there, after those rows are on the disk."""
    with writing(partial):
        for name in FILES:
            with open(partial / name, "r+b") as file:
                os.fsync(file.fileno())
        digests = {name: made.hexdigest() for name, made in hashes.items()}
        write_json(partial / "progress.json", {"settings": settings, "rows": rows, "sha256": digests}, check=True)


def _compare(folder, old, new):
    """Refuses to mix pairs of different settings. Equal digests are the same teacher under any name."""
    same = new["digest"] is not None and old.get("digest") == new["digest"]
    differ = [key for key in SETTINGS if old.get(key) != new[key] and not (key == "teacher" and same)]
    if told := "; ".join(f"{key} {old.get(key)!r}, now {new[key]!r}" for key in differ):
        raise InputError(f"{folder} was made with other settings ({told}): ask for those, or choose another out")
