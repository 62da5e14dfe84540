"""What every test shares: real data if the user has it, fixed seeds, no network."""

import ipaddress
import os
import random
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

WITHOUT = (
    "GSOC_KD_DATA is not set: left out are the tests on real CIFAR-10. To run them too, set it to a "
    "folder with cifar10-train.zip and cifar10-test.zip, or with torchvision's cifar-10-batches-py"
)


def pytest_report_header(config):
    folder = os.environ.get("GSOC_KD_DATA")
    return f"real CIFAR-10: GSOC_KD_DATA={folder}" if folder else f"real CIFAR-10: {WITHOUT}"


@pytest.fixture(scope="session")
def real_data():
    """The folder with real CIFAR-10. A test that asks for it is skipped where there is none."""
    if not os.environ.get("GSOC_KD_DATA"):
        pytest.skip(WITHOUT)
    folder = Path(os.environ["GSOC_KD_DATA"])
    if not folder.is_dir():
        pytest.fail(f"GSOC_KD_DATA={folder} is not a folder; correct it or unset it")
    return folder


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches for the internet fails at once, on a connected machine too."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def local(host):
        try:
            return host in (None, "", "localhost", b"localhost") or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def checked_connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not local(address[0]):
            raise OSError(f"tests run offline, but something connects to {address[0]}")
        return connect(self, address)

    def checked_lookup(host, *args, **kwargs):
        if not local(host):
            raise socket.gaierror(f"tests run offline, but something looks up {host}")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket, "getaddrinfo", checked_lookup)
