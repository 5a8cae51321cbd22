"""The parent of every exception that a caller of Meadow may want to catch, and what more than one layer raises."""


class Error(Exception):
    """Something that a person can put right; the message says what, where, and how.

    Example:
        >>> import meadow
        >>> try:
        ...     meadow.load_dataset("wikidok")
        ... except meadow.Error as error:
        ...     print(type(error).__name__)
        UnknownDatasetError
    """


class UsageError(Error, ValueError):
    """Something that was asked for and cannot be: an option, a parameter, a file that is not there."""


class SourceError(Error):
    """A source that could not be built at all; the message says why and what to do."""


class UnknownDatasetError(UsageError):
    """A dataset, source or version that there is not; the message names those there are."""
