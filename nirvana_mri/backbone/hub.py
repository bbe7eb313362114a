"""The authors' files from the Hugging Face Hub, or from its local cache where the Hub is out of reach."""

from pathlib import Path

from nirvana_mri.errors import CheckpointError, MissingExtraError, UsageError

WANTED = ("config.json", "*.safetensors", "*.index.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json")


def from_hub(repo: str, revision: str | None = None) -> Path:
    """The local folder of a repository ("YuhuaJiang/Nirvana") at a branch, tag or commit, fetched if need be.

    huggingface_hub does the work and reads HF_HOME, HF_HUB_OFFLINE and HF_TOKEN. Its folder is named for the commit.
    Raises: MissingExtraError without huggingface_hub; UsageError for a name that is none; CheckpointError for a
    repository or revision that is not there, not open to this user, or neither cached nor in reach.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as problem:
        raise MissingExtraError("fetching from the Hugging Face Hub", "hf") from problem
    # huggingface_hub's HTTP library differs between its versions; its errors are the bases of HfHubHTTPError.
    carriers = (base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
    failures: tuple[type[Exception], ...] = (OSError, *carriers)
    asked = repo if revision is None else f"{repo} at {revision}"
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(WANTED)))
    except errors.HFValidationError as problem:
        raise UsageError(f"{repo!r} is no repository's name; expected OWNER/NAME, as YuhuaJiang/Nirvana") from problem
    except errors.GatedRepoError as problem:
        raise CheckpointError(
            f"{asked}: its owner asks for consent; accept on the Hub, then run: hf auth login"
        ) from problem
    except errors.RepositoryNotFoundError as problem:
        raise CheckpointError(
            f"{asked}: no such repository, or a private one; check the name, or run: hf auth login"
        ) from problem
    except errors.RevisionNotFoundError as problem:
        raise CheckpointError(
            f"{asked}: the repository has no such branch, tag or commit; leave out --revision"
        ) from problem
    except errors.LocalEntryNotFoundError as problem:
        if isinstance(problem.__cause__, errors.HfHubHTTPError):
            raise _failed(asked, problem.__cause__) from problem
        raise CheckpointError(
            f"{asked}: the Hub is out of reach (or HF_HUB_OFFLINE is set) and the local cache does not hold all of it; "
            "connect, or copy the folder here and import its path"
        ) from problem
    except failures as problem:
        raise _failed(asked, problem) from problem


def _failed(asked: str, problem: BaseException) -> CheckpointError:
    reason = (str(problem).splitlines() or [""])[0] or type(problem).__name__
    return CheckpointError(f"{asked}: the Hub did not deliver ({reason:.200}); try again later")
