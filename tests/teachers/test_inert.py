"""Pickles that are made to cost much: each is refused in one line, in little memory, before its reading has a price."""

import io
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from stylegan2_official import SOURCE, Call, official_bytes, official_names

from gsoc_kd.core.files import InputError
from gsoc_kd.teachers.inert import Budget, unpickle
from gsoc_kd.teachers.official import read_official

TUPLES = b")" + b"\x85" * 150_000  # a tuple in a tuple in a tuple ...


def setting(value, path="synthesis.b8", name="architecture"):
    return official_bytes(change=lambda found: found[path]["settings"].update({name: value}))


def storage(main):
    """An official file, one of whose tensors has this pickle of ours where its storage is named."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True)))
    return official_bytes(G=Call(torch.storage._load_from_bytes, head + main))


def laughs(depth=40):
    value = "ha"
    for _ in range(depth):
        value = [value] * 10
    return value


def copies():
    """A list of 100,000 entries that is made a set, or a dict, 10,000 times: a megabyte that stands for gigabytes."""
    entries = list(range(50_000))
    return pickle.dumps([Call(set, entries) for _ in range(10_000)])


def zipped():
    buffer = io.BytesIO()
    torch.save(torch.zeros(3).storage(), buffer)  # stored, not deflated: no zip at all is read
    return official_bytes(G=Call(torch.storage._load_from_bytes, buffer.getvalue()))


def modules(count, source, name="Generator"):
    with official_names() as (reconstruct, EasyDict):
        about = dict(type="class", version=6, module_src=source, class_name=name, state={})
        return pickle.dumps([Call(reconstruct, EasyDict(about)) for _ in range(count)])


def in_common():
    """A network whose weights are all views of the same numbers: what it would take in memory has no bound."""

    def change(found):
        numbers = torch.zeros(max(p.numel() for one in found.values() for p in one["parameters"].values())).storage()
        for one in found.values():
            for name, weight in one["parameters"].items():
                shape = tuple(weight.shape), weight.stride()
                one["parameters"][name] = Call(torch._utils._rebuild_tensor_v2, numbers, 0, *shape, False, {})

    return official_bytes(change=change)


def many(parts):
    """A network whose parts name one another: 10 layers of depth, `parts` wide, are 10^10 in all."""
    return setting(OrderedDict((str(i), None) for i in range(parts)), "synthesis.b8", "_parameters")


def named(found):
    found["mapping.fc1"]["parameters"]["y" * 1_000_000] = torch.zeros(1)


COSTLY = {
    "a key of nested tuples": (lambda: b"\x80\x04}" + TUPLES + b"Ns.", "has a key that is no text"),
    "the same in a tensor": (lambda: storage(b"\x80\x02}" + TUPLES + b"Ns."), "a tensor in it"),
    "laughs in a setting": (lambda: setting(laughs()), "'synthesis.b8.architecture' is a list"),
    "laughs as a clamp": (lambda: setting(laughs(), "synthesis.b8.conv1", "conv_clamp"), "conv_clamp"),
    "copies": (copies, "takes more than an official file does"),
    "a zip archive": (zipped, "a tensor in it is a zip archive"),
    "a long name": (lambda: modules(1, SOURCE, "x" * 30_000_000), "takes more than"),
    "a long source": (lambda: modules(15_000, f"{SOURCE}\n" + "class x: pass\n" * 2_000_000), "takes more than"),
    "a text of wide letters": (lambda: pickle.dumps("a" * 80_000_000 + "\U0001f600"), "takes more than"),
    "endless numbers": (lambda: b"\x80\x02\x8b\xff\xff\xff\x0f" + bytes(1000) + b".", "instruction LONG4"),
    "many instructions": (lambda: b"\x80\x02" + b"]" * 300_000 + b".", "takes more than"),
    "many entries": (lambda: many(150_000), "takes more than"),
    "a name of a tensor": (lambda: official_bytes(change=named), "has a key that is longer than"),
    "numbers in common": (in_common, "have their numbers in common"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all of them, made once."""
    folder = tmp_path_factory.mktemp("costly")
    for kind, (make, _) in COSTLY.items():
        (folder / f"{kind}.pkl").write_bytes(make())
    return folder


@pytest.mark.parametrize("kind", COSTLY)
def test_what_would_cost_much_is_refused_in_one_short_line(kind, folder):
    with pytest.raises(InputError, match="nothing in it was run") as caught:
        read_official(folder / f"{kind}.pkl")
    told = COSTLY[kind][1]
    assert told in str(caught.value) and len(str(caught.value)) < 400 and str(caught.value).isprintable()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of memory is read from Linux's /proc")
def test_reading_costly_files_takes_less_than_a_gigabyte(folder):
    """All of them in one process, with what torch itself takes. (getrusage would count the parent's memory too.)"""
    code = """if True:
        import sys
        from pathlib import Path
        from gsoc_kd.core.files import InputError
        from gsoc_kd.teachers.official import read_official
        for path in Path(sys.argv[1]).iterdir():
            try:
                read_official(path)
            except InputError:
                continue
            raise SystemExit(f"{path} was read")
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(line for line in lines if line.startswith("VmHWM")).split()[1])  # in kB
    """
    words = [sys.executable, "-c", code, folder]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert 1e8 < int(done.stdout) * 1024 < 1e9


def test_one_budget_pays_for_all_pickles_in_a_file():
    data, left = official_bytes(), Budget()
    unpickle(data, left)
    outer = 200_000 - left.steps
    assert 2_000 < outer < 20_000 and left.made > 250 << 20
    with pytest.raises(InputError, match="takes more than an official file does"):
        unpickle(data, Budget(steps=outer - 10))
    with pytest.raises(InputError, match="takes more than"):
        unpickle(data, Budget(seconds=-1))
