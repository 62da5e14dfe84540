"""Networks on the Hugging Face Hub: "owner/name", or "owner/name@revision" for a branch, a tag or a commit.

huggingface_hub keeps what it downloads in its cache, so a network that was downloaded once is available offline. Only
the three files of a network are downloaded, and they are read like those of a folder. HF_ENDPOINT names another Hub.
"""

import contextlib
import os
import re
import sys
from pathlib import Path

from .files import InputError

FILES = ("config.json", "model.safetensors", "provenance.json")
NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?")


def is_name(source):
    """Whether a text could name a network on the Hub. Whoever asks has first looked for a path of that name."""
    return isinstance(source, str) and NAME.fullmatch(source) is not None


def download(name):
    """The folder, in the cache, with the files of the network `name`, which is told on stderr. InputError: there is no
    such network, it may not be read, or the Hub cannot be reached and the cache does not have it."""
    from huggingface_hub import snapshot_download

    repository, revision = NAME.fullmatch(name).groups()
    with asking(f"{name} does not exist here, and the Hugging Face Hub"):
        options = {"allow_patterns": list(FILES), "endpoint": os.environ.get("HF_ENDPOINT")}
        folder = Path(snapshot_download(repository, revision=revision, **options))
    print(f"{name}: from the Hugging Face Hub, commit {folder.name[:12]}", file=sys.stderr)
    return folder


def upload(folder, name, private=False, message="Upload"):
    """Makes the repository `name` of models if there is none, puts the files of `folder` into it in one commit, and
    returns its address. InputError: not logged in, not allowed, or the Hub cannot be reached."""
    from huggingface_hub import HfApi

    with asking(f"{name} was not uploaded: the Hugging Face Hub"):
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    return str(address)


@contextlib.contextmanager
def asking(told):
    """Turns what goes wrong with the Hub into one line, which begins with `told` and goes on with a verb."""
    from huggingface_hub import constants, errors

    try:
        yield
    except Exception as error:  # noqa: BLE001  its HTTP library, which changes between versions, raises its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError) or status == 403:
            why = "refuses: ask for access on its page, and log in (hf auth login, or the variable HF_TOKEN)"
        elif isinstance(error, errors.RevisionNotFoundError):
            why = "has no such revision of it"
        elif isinstance(error, errors.LocalTokenNotFoundError) or (status == 401 and "uploaded" in told):
            why = "does not know who you are: log in (hf auth login, or the variable HF_TOKEN)"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why = "has none of that name that you may read (hf auth login, or the variable HF_TOKEN, for private ones)"
        elif isinstance(error, errors.HFValidationError):
            why = f"knows no such names ({_line(error)})"
        elif status:
            why = f"answered {status} ({_line(error)})"
        else:
            reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _line(error.__cause__ or error)
            why = f"cannot be reached ({reason}): connect to the internet, or name a folder"
        raise InputError(f"{told} {why}") from None


def _line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0][:160]
