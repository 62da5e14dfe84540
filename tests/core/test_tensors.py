"""Files of torch.save: tensors come in, nothing else does, nothing is run."""

import os
import pickle
import zipfile

import pytest
import torch

from gsoc_kd.core.files import InputError
from gsoc_kd.core.tensors import load_tensors

MOST = 1 << 20


def test_tensors_and_dicts_of_them_come_in_wherever_they_were(tmp_path, monkeypatch):
    batch = torch.arange(12.0).reshape(3, 4)
    torch.save(batch[1], tmp_path / "row.pt")  # with its whole batch
    assert torch.equal(load_tensors(tmp_path / "row.pt", MOST), batch[1])
    state = torch.nn.BatchNorm1d(3).state_dict()
    torch.save(state, tmp_path / "state.pt")
    assert {k: v.tolist() for k, v in load_tensors(str(tmp_path / "state.pt"), MOST).items()} == {
        k: v.tolist() for k, v in state.items()
    }
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")  # as from a GPU
    torch.save(batch, tmp_path / "gpu.pt")
    assert torch.equal(load_tensors(tmp_path / "gpu.pt", MOST), batch)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_is_no_plain_tensor_is_refused_and_nothing_runs(tmp_path):
    ran, file = tmp_path / "ran", tmp_path / "x.pt"

    def squeezed():
        torch.save(torch.zeros(300), tmp_path / "plain.pt")
        with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))

    for make, message in (
        (lambda: torch.save(Runs(ran), file), "nothing in it was run"),
        (lambda: torch.save({"w": torch.ones(1), "x": Runs(ran)}, file), "nothing in it was run"),
        (lambda: file.write_bytes(pickle.dumps(Runs(ran))), "not a zip file"),
        (lambda: torch.save(torch.ones(2), file, _use_new_zipfile_serialization=False), "not a zip file"),
        (lambda: torch.save([torch.ones(2)], file), "no plain tensor"),
        (lambda: torch.save({"a": 3}, file), "'a' is no plain tensor"),
        (lambda: torch.save({1: torch.ones(2)}, file), "1 is no plain tensor"),
        (lambda: torch.save(torch.ones(1).expand(1 << 40), file), "no plain tensor"),
        (lambda: torch.save(torch.ones(2).to_sparse(), file), "no plain tensor"),
        (lambda: torch.save(torch.ones(2, device="meta"), file), "no plain tensor"),
        (lambda: torch.save(torch.ones(2, dtype=torch.complex64), file), "no plain tensor"),
        (lambda: torch.save({str(i): torch.ones(1) for i in range(900)}, file), "much beside numbers"),
        (lambda: torch.save(torch.ones(1 << 19), file), "more than 1,048,576 bytes"),
        (squeezed, "compressed"),
        (lambda: file.write_bytes(file.read_bytes()[:-40]), "cannot be read"),
        (lambda: file.write_bytes(b""), "cannot be read"),
        (lambda: file.unlink(), "x.pt is missing"),
        (lambda: file.mkdir(), "is not a file"),
    ):
        make()
        with pytest.raises(InputError, match=message) as refused:
            load_tensors(file, MOST)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    assert not ran.exists()


def test_no_flipped_bit_gives_other_numbers(tmp_path):
    numbers, refused = torch.arange(1.0, 9.0), 0
    torch.save(numbers, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for at in range(0, len(whole), 3):
        (tmp_path / "b.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            assert torch.equal(load_tensors(tmp_path / "b.pt", MOST), numbers)  # a bit of the padding
        except InputError:
            refused += 1
    assert refused > 50
