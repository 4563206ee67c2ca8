"""The Hugging Face Hub: taking the files of a model from a repository, and putting them there."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["CONFIG", "WEIGHTS", "download", "is_repo", "repo_of", "upload"]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""The files of a model: all that is loaded, and a copy of its settings for readers."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LOG_IN = "log in with hf auth login, or set HF_TOKEN"


def is_repo(name: str | os.PathLike[str]) -> bool:
    """Return whether a text is taken for a repository, ``owner/name``, and not for a path.

    It is none where something of that name is here, or a folder of the owner's name.
    """
    text = os.fspath(name)
    here = os.path.lexists(text) or os.path.lexists(text.partition("/")[0])
    return _NAME.fullmatch(text) is not None and not text.endswith(".ckpt") and not here


def repo_of(path: Path) -> str | None:
    """Return the repository that a file of the Hub's cache is from; None for another file."""
    found = re.search(r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\]", str(path))
    return None if found is None else f"{found[1]}/{found[2]}"


def download(repo: str, revision: str | None = None) -> Path:
    """Take a model from a repository into the Hub's cache, and say so on stderr.

    Args:
        repo: ``owner/name``.
        revision: A branch, tag or commit; the newest by default.

    Returns:
        The file of its weights, which holds its settings, too.

    Raises:
        ValueError: If huggingface_hub is missing.
        OSError: If there is no such repository, it holds no model of multibeta, it may not be
            read, or the Hub cannot be reached and nothing is kept.
    """
    hub = _needed()
    print(f"{repo} is no file or folder here: looked for on {_where()}", file=sys.stderr)
    try:
        for name in (CONFIG, WEIGHTS):
            path = hub.hf_hub_download(
                repo, name, revision=revision, endpoint=_endpoint(), library_name="multibeta"
            )
    except Exception as error:
        raise _fault(error, repo, "read") from error
    print(f"{repo}: {WEIGHTS} at {Path(path).parent.name[:12]}, kept in {path}", file=sys.stderr)
    return Path(path)


def upload(folder: Path, repo: str, private: bool = False, token: str | None = None) -> str:
    """Put a folder into a repository, which is made if there is none.

    Args:
        folder: The folder.
        repo: ``owner/name``.
        private: Whether a new repository is private.
        token: The token to write with; that of the login by default.

    Returns:
        The address of the repository.

    Raises:
        ValueError: If huggingface_hub is missing.
        OSError: If it may not be written, or the Hub cannot be reached.
    """
    api = _needed().HfApi(endpoint=_endpoint(), token=token, library_name="multibeta")
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="A model of multibeta"
        )  # fmt: skip
    except Exception as error:
        raise _fault(error, repo, "written") from error
    return str(address)


def _needed() -> Any:
    if find_spec("huggingface_hub") is None:
        raise ValueError("the Hub needs huggingface_hub: pip install 'multibeta[hub]'")
    import huggingface_hub

    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None  # huggingface_hub reads it once, when imported


def _where() -> str:
    return (_endpoint() or "https://huggingface.co").rstrip("/")


def _fault(error: Exception, repo: str, done: str) -> Exception:
    """Return what to say of an error of huggingface_hub; its versions differ in classes."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    where, first = _where(), (str(error).strip().split("\n") or [""])[0]
    if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError",
                "TransportError", "ConnectError", "TimeoutException"}:  # fmt: skip
        return OSError(
            f"{repo} cannot be {done}: {where} cannot be reached, and no copy is kept; check the "
            "network, HF_ENDPOINT and HF_HUB_OFFLINE, or give a path"
        )
    if "GatedRepoError" in kinds:
        return OSError(f"{repo} asks for its terms: accept them at {where}/{repo}, then {_LOG_IN}")
    if done == "written" and ("LocalTokenNotFoundError" in kinds or status in (401, 403)):
        return OSError(f"{repo} on {where} may not be written; {_LOG_IN}, with a token that may")
    if "RepositoryNotFoundError" in kinds:
        return OSError(
            f"no checkpoint at {repo}, and no such repository on {where}, or a private one: "
            f"correct the name, or {_LOG_IN}"
        )
    if "RevisionNotFoundError" in kinds:
        return OSError(f"{repo} on {where} has no such revision; give a branch, tag or commit")
    if "EntryNotFoundError" in kinds:
        return OSError(
            f"{repo} on {where} has no {CONFIG} or no {WEIGHTS}: it is no model that multibeta "
            "has put there; give another"
        )
    return OSError(f"{repo} cannot be {done} on {where} ({type(error).__name__}: {first})")
