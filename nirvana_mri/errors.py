"""The few errors that the command line turns into one clear line and an exit code.

Every message names the value, what was expected, and the next step (docs/style: "Errors").
"""


class NirvanaError(Exception):
    """Base of every error whose message is meant for the person at the keyboard."""

    exit_code = 1


class UsageError(NirvanaError):
    """An argument that cannot work, whatever the data: exit code 2."""

    exit_code = 2


class DataError(NirvanaError):
    """A file or array that cannot be used as it is: exit code 1."""


class ScanError(DataError):
    """A raw acquisition that cannot be read, or contradicts itself."""


class CheckpointError(DataError):
    """A model file that is damaged, foreign, or does not belong to this backbone."""


class ProtocolError(DataError):
    """Two images or scores that must not be compared."""


class MissingExtraError(UsageError):
    """A feature whose optional dependency is not installed; the message names the extra."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency; install it with: pip install 'nirvana-mri[{extra}]'")
